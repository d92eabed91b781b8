//! Where rows come from: a mapped file, or anything that can be read. Cuts the input after whole rows; knows neither
//! stores nor threads.

use std::io::{self, ErrorKind, Read};

use memchr::{memchr, memrchr};

use crate::Result;
use crate::files::mapped::Mapped;

/// Bytes that are searched for a newline between two calls of `poll`.
const SEARCH: usize = 1 << 20;

/// A run of whole rows; only the last row of an input may lack its newline.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) bytes: &'a [u8],
    mapped: Option<&'a Mapped>,
}

impl Block<'_> {
    /// An error if what was read of the block so far is not what the file held.
    pub(super) fn intact(&self) -> io::Result<()> {
        self.mapped.map_or(Ok(()), Mapped::intact)
    }
}

/// A source of rows. `poll` is called at least once for each MiB that is searched or read; its error ends the call.
pub(super) trait Input {
    /// The next rows: at most `goal` bytes of them, or one row if that is longer; empty at the end.
    fn next_rows(
        &mut self,
        goal: usize,
        poll: &mut Poll<'_>,
    ) -> std::result::Result<Block<'_>, Failure>;

    /// All that is still to come, where it can be looked at before it is read.
    fn ahead(&self) -> Option<&[u8]> {
        None
    }
}

/// Called now and then; its error ends what the caller is doing.
pub(super) type Poll<'a> = dyn FnMut() -> Result<()> + 'a;

/// Why an input gave no rows.
#[derive(Debug)]
pub(super) enum Failure {
    /// The input cannot be read.
    Read(io::Error),
    /// `poll` said so.
    Polled(crate::Error),
}

/// The rows of a mapped file.
pub(super) struct MappedInput<'a> {
    mapped: &'a Mapped,
    position: usize,
}

impl<'a> MappedInput<'a> {
    pub(super) fn new(mapped: &'a Mapped) -> Self {
        MappedInput {
            mapped,
            position: 0,
        }
    }
}

impl Input for MappedInput<'_> {
    fn next_rows(
        &mut self,
        goal: usize,
        poll: &mut Poll<'_>,
    ) -> std::result::Result<Block<'_>, Failure> {
        let rest = &self.mapped.as_bytes()[self.position..];
        let length = whole_rows(rest, goal, poll)
            .map_err(Failure::Polled)?
            .unwrap_or(rest.len());
        self.mapped.intact().map_err(Failure::Read)?;
        self.position += length;
        Ok(Block {
            bytes: &rest[..length],
            mapped: Some(self.mapped),
        })
    }

    fn ahead(&self) -> Option<&[u8]> {
        Some(&self.mapped.as_bytes()[self.position..])
    }
}

/// The rows of a reader, by way of a buffer that holds the rows of one block and the start of the next.
pub(super) struct ReadInput<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    used: usize,
    ended: bool,
}

impl<R: Read> ReadInput<R> {
    pub(super) fn new(reader: R) -> Self {
        ReadInput {
            reader,
            buffer: Vec::new(),
            used: 0,
            ended: false,
        }
    }

    /// Reads until the buffer holds `wanted` bytes or the input ends.
    fn fill(&mut self, wanted: usize, poll: &mut Poll<'_>) -> std::result::Result<(), Failure> {
        while self.buffer.len() < wanted && !self.ended {
            poll().map_err(Failure::Polled)?;
            let step = (wanted - self.buffer.len()).min(SEARCH);
            self.buffer
                .try_reserve(step)
                .map_err(|_| Failure::Read(ErrorKind::OutOfMemory.into()))?;
            match (&mut self.reader)
                .take(step as u64)
                .read_to_end(&mut self.buffer)
            {
                Ok(read) => self.ended = read < step,
                Err(error) => return Err(Failure::Read(error)),
            }
        }
        Ok(())
    }
}

impl<R: Read> Input for ReadInput<R> {
    fn next_rows(
        &mut self,
        goal: usize,
        poll: &mut Poll<'_>,
    ) -> std::result::Result<Block<'_>, Failure> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut wanted = goal.max(1);
        loop {
            self.fill(wanted, poll)?;
            let found = whole_rows(&self.buffer, goal, poll).map_err(Failure::Polled)?;
            if found.is_some() || self.ended {
                self.used = found.unwrap_or(self.buffer.len());
                return Ok(Block {
                    bytes: &self.buffer[..self.used],
                    mapped: None,
                });
            }
            wanted = self.buffer.len() * 2;
        }
    }
}

/// Length of the rows at the start of `bytes` that fit into `goal` bytes, or of the first one if that is longer. `None`
/// if it has no end in `bytes`. All of `bytes` if they are no more than `goal` and end with a newline.
pub(super) fn whole_rows(bytes: &[u8], goal: usize, poll: &mut Poll<'_>) -> Result<Option<usize>> {
    let goal = goal.clamp(1, bytes.len().max(1)).min(bytes.len());
    let mut high = goal;
    while high > 0 {
        let low = high.saturating_sub(SEARCH);
        if let Some(at) = memrchr(b'\n', &bytes[low..high]) {
            return Ok(Some(low + at + 1));
        }
        poll()?;
        high = low;
    }
    after_newline(bytes, goal, poll)
}

/// Position after the first newline at or after `from`.
pub(super) fn after_newline(
    bytes: &[u8],
    from: usize,
    poll: &mut Poll<'_>,
) -> Result<Option<usize>> {
    let mut low = from;
    while low < bytes.len() {
        let high = bytes.len().min(low + SEARCH);
        if let Some(at) = memchr(b'\n', &bytes[low..high]) {
            return Ok(Some(low + at + 1));
        }
        poll()?;
        low = high;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Gives one byte, then two, then three, and now and then is interrupted.
    struct Trickle<'a> {
        bytes: &'a [u8],
        turn: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.turn += 1;
            if self.turn.is_multiple_of(5) {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = (self.turn % 4).max(1).min(buffer.len());
            self.bytes.read(&mut buffer[..length])
        }
    }

    fn blocks(input: &mut dyn Input, goal: usize) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        loop {
            let block = input.next_rows(goal, &mut || Ok(())).unwrap();
            if block.bytes.is_empty() {
                return blocks;
            }
            blocks.push(block.bytes.to_vec());
        }
    }

    proptest! {
        #[test]
        fn blocks_are_whole_rows_and_together_the_input(
            lines in vec("[^\n]{0,40}", 0..30), ends in any::<bool>(), goal in 0usize..150
        ) {
            let mut text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            if !ends {
                text.pop();
            }
            let mut input = ReadInput::new(Trickle { bytes: text.as_bytes(), turn: 0 });
            let blocks = blocks(&mut input, goal);
            prop_assert_eq!(blocks.concat(), text.as_bytes());
            for (index, block) in blocks.iter().enumerate() {
                let rows = memchr::memchr_iter(b'\n', block).count();
                prop_assert!(block.len() <= goal || rows <= 1);
                prop_assert!(block.ends_with(b"\n") || index + 1 == blocks.len());
            }
        }
    }

    #[test]
    fn error_of_poll_ends_the_search_for_the_end_of_a_long_row() {
        let long = vec![b'x'; 4 * SEARCH];
        let mut polls = 0;
        let found = whole_rows(&long, SEARCH, &mut || {
            polls += 1;
            if polls < 3 {
                Ok(())
            } else {
                Err(crate::Error::Cancelled)
            }
        });
        assert!(matches!(found, Err(crate::Error::Cancelled)));
    }

    #[test]
    fn error_of_the_reader_is_given_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
        let mut input = ReadInput::new(Broken);
        assert!(matches!(
            input.next_rows(10, &mut || Ok(())),
            Err(Failure::Read(_))
        ));
    }
}
