//! Writes manual pages and completions into a directory, for packages: `cargo run --example manual -- DIR`.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: manual DIRECTORY")?;
    let directory = Path::new(&directory);
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(fleetfoot::cli::definition(), &man)?;
    for (shell, name) in
        [(Shell::Bash, "fleetfoot"), (Shell::Zsh, "_fleetfoot"), (Shell::Fish, "fleetfoot.fish")]
    {
        let mut file = File::create(completions.join(name))?;
        clap_complete::generate(shell, &mut fleetfoot::cli::definition(), "fleetfoot", &mut file);
    }
    Ok(())
}
