//! What the kernel says of a process.

use anyhow::{Context, Result};

/// Ticks of processor time in a second; Linux shows 100 to programs on every machine.
const TICKS: f64 = 100.0;

/// Memory in KiB.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Memory {
    pub(in crate::commands) rss_kib: f64,
    pub(super) pss_kib: f64,
}

/// Resident memory, and the share of it that is the process's own.
pub(in crate::commands) fn memory(pid: i32) -> Result<Memory> {
    let status = read(pid, "status")?;
    let rollup = read(pid, "smaps_rollup")?;
    Ok(Memory { rss_kib: value_kib(&status, "VmRSS:")?, pss_kib: value_kib(&rollup, "Pss:")? })
}

/// Processor time in seconds since its start.
pub(super) fn processor_seconds(pid: i32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    // The name in brackets may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no process status")?;
    let field =
        |index: usize| -> Option<f64> { fields.split_whitespace().nth(index)?.parse().ok() };
    let (user, system) = field(11).zip(field(12)).context("no processor time")?;
    Ok((user + system) / TICKS)
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn value_kib(text: &str, key: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no {key} there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let memory = memory(pid).unwrap();
        assert!(memory.rss_kib > 100.0 && memory.pss_kib > 10.0, "{memory:?}");
        assert!(processor_seconds(pid).unwrap() >= 0.0);
    }
}
