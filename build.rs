//! Compiles the bridge to the system's sparsehash.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=SPARSEHASH_INCLUDE_DIR");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=src/engine/ffi.rs");
    let found = sparsehash_include_dir();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("include");
    copy_headers(&found, &out);
    let mut build = cxx_build::bridge("src/engine/ffi.rs");
    if env::var_os("CARGO_FEATURE_FAILPOINTS").is_some() {
        build.define("ATBR_FAILPOINTS", None);
    }
    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        build.file("cpp/decimal.cc");
    }
    build
        .file("cpp/sparse_table.cc")
        .include("cpp")
        // As a system folder: warnings of its headers are not this project's.
        .flag(format!("-isystem{}", out.display()))
        .std("c++17")
        .flag_if_supported("-Wall")
        .flag_if_supported("-Wextra")
        .opt_level(2)
        .warnings(true)
        .compile("atbr_sparse_table");
}

/// The folder that holds `sparsehash/sparsetable`, or the end of the build in one sentence.
fn sparsehash_include_dir() -> PathBuf {
    let named = env::var_os("SPARSEHASH_INCLUDE_DIR").map(PathBuf::from);
    let usual = [
        "/usr/include",
        "/usr/local/include",
        "/opt/homebrew/include",
    ]
    .map(PathBuf::from);
    let candidates = match named {
        Some(dir) => vec![dir],
        None => usual.to_vec(),
    };
    for dir in &candidates {
        if dir.join("sparsehash/sparsetable").is_file() {
            return dir.clone();
        }
    }
    let looked: Vec<_> = candidates.iter().map(|d| d.display().to_string()).collect();
    println!(
        "cargo::error=the headers of Google's sparsehash are not in {}: install them (Debian, Ubuntu: apt-get install libsparsehash-dev; Fedora: dnf install sparsehash-devel; macOS: brew install google-sparsehash) or set SPARSEHASH_INCLUDE_DIR",
        looked.join(", ")
    );
    // Cargo prints the line above and nothing else of this script.
    std::process::exit(0);
}

/// Copies the headers alone, so that the compiler never sees the rest of the system's include folder.
fn copy_headers(from: &Path, to: &Path) {
    let mut folders = vec![PathBuf::from("sparsehash")];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(to.join(&folder)).expect("cannot write into OUT_DIR");
        let entries = fs::read_dir(from.join(&folder)).expect("cannot list the sparsehash headers");
        for entry in entries {
            let entry = entry.expect("cannot list the sparsehash headers");
            let name = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(name);
            } else {
                fs::copy(entry.path(), to.join(&name)).expect("cannot copy a sparsehash header");
            }
        }
    }
}
