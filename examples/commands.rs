//! Prints docs/commands.md.

fn main() {
    print!("{}", atbr::server::commands_document());
}
