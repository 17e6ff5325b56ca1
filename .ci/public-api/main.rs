//! Prints the public API of the crate whose rustdoc JSON is given, a line for each item.

/// Traits that the compiler implements by itself, and that no caller relies on here.
const UNTOLD: [&str; 5] = [
    "core::marker::Freeze for ",
    "core::marker::StructuralPartialEq for ",
    "core::marker::Unpin for ",
    "core::panic::unwind_safe::RefUnwindSafe for ",
    "core::panic::unwind_safe::UnwindSafe for ",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args_os().nth(1).ok_or("which JSON?")?;
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .build()?;
    for item in api.items().map(ToString::to_string) {
        // How methods are spread over blocks is not public.
        let is_block = item.starts_with("impl") && !item.contains(" for ");
        // The guide is documentation. It is in no build of the crate.
        let is_guide = item.starts_with("pub mod process_kill::guide");
        if !is_block && !is_guide && !UNTOLD.iter().any(|name| item.contains(name)) {
            println!("{item}");
        }
    }
    Ok(())
}
