//! Levels at the moment of the scrape.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use fleetfoot_api::PoolStatus;
use fleetfoot_core::Phase;

use crate::views::Snapshot;

/// Prometheus' text format, written family by family.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        self.family_of("gauge", name, help);
    }

    fn family_of(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{text}\"");
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }

    fn per_pool<V: Display>(
        &mut self,
        pools: &[PoolStatus],
        name: &str,
        help: &str,
        value: impl Fn(&PoolStatus) -> Option<V>,
    ) {
        self.family(name, help);
        for pool in pools {
            if let Some(value) = value(pool) {
                self.sample(name, &[("pool", &pool.name)], value);
            }
        }
    }
}

pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    text.family("fleetfoot_info", "The version that runs.");
    text.sample("fleetfoot_info", &[("version", &snapshot.version)], 1);
    if let Some(health) = &snapshot.health {
        text.family("fleetfoot_ready", "Every pool's first poll was opened.");
        text.sample("fleetfoot_ready", &[], u8::from(health.ready && !health.stopping));
        for (name, help, at) in [
            ("fleetfoot_start_time_seconds", "When the controller started.", health.started_at),
            (
                "fleetfoot_last_pass_time_seconds",
                "The last reconciliation pass.",
                health.last_pass_at,
            ),
        ] {
            text.family(name, help);
            text.sample(name, &[], format_args!("{}.{:03}", at.0 / 1000, at.0.rem_euclid(1000)));
        }
    }
    discrepancies(&mut text, snapshot);
    written(&mut text, snapshot);
    let pools = snapshot.pool_list();
    pool_levels(&mut text, &pools);
    releases(&mut text, snapshot);
    phases(&mut text, snapshot);
    text.family(
        "fleetfoot_pool_cause",
        "Why demand is not served at once: 1 for each cause that holds.",
    );
    for pool in &pools {
        for cause in &pool.causes {
            let labels = [("pool", pool.name.as_str()), ("cause", cause.code.as_str())];
            text.sample("fleetfoot_pool_cause", &labels, 1);
        }
    }
    text.family(
        "fleetfoot_pool_listener",
        "Where the pool's listener is: 1 for its present state.",
    );
    for pool in &pools {
        if let Some(listener) = &pool.listener {
            let labels = [("pool", pool.name.as_str()), ("state", listener.state.as_str())];
            text.sample("fleetfoot_pool_listener", &labels, 1);
        }
    }
    text.0
}

/// What the store has done; it counts from its opening, as counters do.
fn written(text: &mut Text, snapshot: &Snapshot) {
    let fleetfoot_store::Counters { updates, commits, rows } = snapshot.written;
    for (name, help, value) in [
        ("fleetfoot_store_updates_total", "Changes handed to the store.", updates),
        ("fleetfoot_store_commits_total", "Transactions of the store.", commits),
        ("fleetfoot_store_rows_total", "Rows that the store wrote or removed.", rows),
    ] {
        text.family_of("counter", name, help);
        text.sample(name, &[], value);
    }
}

fn pool_levels(text: &mut Text, pools: &[PoolStatus]) {
    let flag = |value: bool| Some(u32::from(value));
    text.per_pool(pools, "fleetfoot_pool_desired", "Instances wanted now.", |p| Some(p.desired));
    text.per_pool(pools, "fleetfoot_pool_occupying", "Instances that take a slot.", |p| {
        Some(p.occupying)
    });
    text.per_pool(pools, "fleetfoot_pool_serving", "Instances that serve demand.", |p| {
        Some(p.serving)
    });
    text.per_pool(pools, "fleetfoot_pool_max_runners", "The limit.", |p| p.max_runners);
    text.per_pool(pools, "fleetfoot_pool_advertised", "The capacity last stated to GitHub.", |p| {
        p.advertised
    });
    text.per_pool(
        pools,
        "fleetfoot_pool_jobs_assigned",
        "Jobs waiting for or running on the pool, as GitHub stated.",
        |p| Some(p.demand.assigned),
    );
    text.per_pool(pools, "fleetfoot_pool_jobs_running", "Jobs running, as GitHub stated.", |p| {
        Some(p.demand.running)
    });
    text.per_pool(
        pools,
        "fleetfoot_pool_jobs_waiting",
        "Jobs known by name that wait for a runner.",
        |p| Some(p.waiting.len()),
    );
    text.per_pool(pools, "fleetfoot_pool_demand_known", "A message session is open.", |p| {
        flag(p.demand.known)
    });
    text.per_pool(
        pools,
        "fleetfoot_pool_circuit_open",
        "Nothing is started for now, after failures.",
        |p| flag(p.circuit.open),
    );
    text.per_pool(pools, "fleetfoot_pool_circuit_failures", "Failed starts in a row.", |p| {
        Some(p.circuit.failures)
    });
}

/// Which release of the runner each pool uses, and how long GitHub takes it.
fn releases(text: &mut Text, snapshot: &Snapshot) {
    let Some(health) = &snapshot.health else { return };
    let name = "fleetfoot_pool_runner_info";
    text.family(name, "The release of the runner that the pool uses, and the newest one: 1.");
    for (pool, told) in &health.pools {
        if let Some(version) = &told.runner.version {
            let newest = told.runner.newest.as_deref().unwrap_or_default();
            let labels = [("pool", pool.as_str()), ("version", version), ("newest", newest)];
            text.sample(name, &labels, 1);
        }
    }
    let name = "fleetfoot_pool_runner_accepted_seconds";
    let help =
        "Until GitHub takes the pool's runner no more, about; absent while it is the newest.";
    text.family(name, help);
    for (pool, told) in &health.pools {
        if let Some(until) = told.runner.accepted_until {
            let seconds = (until.0 - snapshot.now.0) / 1000;
            text.sample(name, &[("pool", pool.as_str())], seconds);
        }
    }
}

/// What GitHub, backends and the store disagree about. Without a pool: what belongs to none that is served.
fn discrepancies(text: &mut Text, snapshot: &Snapshot) {
    let Some(health) = &snapshot.health else { return };
    let served = health.pools.iter().map(|(name, told)| (name.as_str(), &told.discrepancies));
    let unserved = health.unserved.values().map(|told| ("", told.as_ref()));
    let mut now: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut seen: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (pool, told) in served.chain(unserved) {
        for (kind, count) in &told.seen {
            *seen.entry((pool, kind.as_str())).or_default() += count;
            // What was there once is 0 again, not absent.
            let present = told.counts.get(kind).copied().unwrap_or(0);
            *now.entry((pool, kind.as_str())).or_default() += present;
        }
    }
    let name = "fleetfoot_discrepancies";
    text.family(name, "Disagreements between GitHub, a backend and the store that are there now.");
    for ((pool, kind), count) in now {
        text.sample(name, &[("pool", pool), ("kind", kind)], count);
    }
    let name = "fleetfoot_discrepancies_total";
    text.family_of("counter", name, "Disagreements that were seen.");
    for ((pool, kind), count) in seen {
        text.sample(name, &[("pool", pool), ("kind", kind)], count);
    }
}

fn phases(text: &mut Text, snapshot: &Snapshot) {
    let name = "fleetfoot_instances";
    text.family(name, "Instances by phase.");
    for (pool, state) in &snapshot.pools {
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Closed) {
            let count = state.instances.values().filter(|one| one.phase == phase).count();
            text.sample(name, &[("pool", pool.as_str()), ("phase", phase.as_str())], count);
        }
    }
}
