//! The process itself, by the names that Prometheus' client libraries have for it. Where the kernel does not say (only
//! Linux does), a number is not there.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// When this process began to count, in seconds since 1970.
pub(super) fn began() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Its numbers at this moment.
pub(super) fn render(began: f64) -> String {
    let mut text = String::new();
    let mut number = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        let Some(value) = value else { return };
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let used = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds of years fit")]
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    number("process_cpu_seconds_total", "counter", "Processor time used.", Some(seconds));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = |word: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(word))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
    };
    let (resident, virtual_size) = (memory("VmRSS:"), memory("VmSize:"));
    number("process_resident_memory_bytes", "gauge", "Memory that is resident.", resident);
    number("process_virtual_memory_bytes", "gauge", "Memory that is addressed.", virtual_size);
    number("process_open_fds", "gauge", "File descriptors that are open.", open_fds());
    #[expect(clippy::cast_precision_loss, reason = "a limit that loses its last digit is a limit")]
    let limit = getrlimit(Resource::Nofile).current.map(|limit| limit as f64);
    number("process_max_fds", "gauge", "File descriptors that may be open.", limit);
    number("process_start_time_seconds", "gauge", "When the process started.", Some(began));
    text
}

fn open_fds() -> Option<f64> {
    // One of them is the directory that is read.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_type_and_a_value() {
        let page = render(1.5);
        for (name, kind) in [
            ("process_cpu_seconds_total", "counter"),
            ("process_resident_memory_bytes", "gauge"),
            ("process_virtual_memory_bytes", "gauge"),
            ("process_open_fds", "gauge"),
            ("process_max_fds", "gauge"),
            ("process_start_time_seconds", "gauge"),
        ] {
            if cfg!(not(target_os = "linux")) && !page.contains(name) {
                continue;
            }
            assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{page}");
            let value = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            let value: f64 = value.unwrap().parse().unwrap();
            // A limit may be none at all.
            assert!(value > 0.0, "{name} {value}");
        }
    }
}
