//! The Python extension module `atbr._core`: the only code that knows PyO3.
