//! What deciding costs, by the number of instances: `cargo bench -p fleetfoot-core`.
//!
//! Half of the instances run a job, a quarter is idle, the others start; as many jobs again wait.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fleetfoot_core::{
    Environment, Instance, InstanceName, Phase, Pool, PoolName, PoolSpec, PoolState, Registration,
    RunnerId, ScaleSetId, Snapshot, Span, Statistics, Timestamp, plan,
};

const NOW: Timestamp = Timestamp(10_000_000);
const SIZES: [u32; 3] = [1, 100, 2_000];

fn state(count: u32) -> PoolState {
    let mut pool = Pool::new(PoolName::new("p").unwrap(), Timestamp(0));
    pool.scale_set_id = Some(ScaleSetId(1));
    pool.demand.session_opened(Statistics { assigned: count * 2, ..Statistics::default() }, NOW);
    let mut state = PoolState::new(pool);
    for number in 0..count {
        let name = InstanceName::of_pool(&state.pool.name, number);
        let mut row = Instance::pending(name.clone(), state.pool.name.clone(), NOW);
        row.phase = match number % 4 {
            0 | 1 => Phase::Running,
            2 => Phase::Idle,
            _ => Phase::Starting,
        };
        row.phase_since = NOW - Span::seconds(20);
        row.environment = Environment::Launched;
        row.registration = Registration::Registered(RunnerId(i64::from(number) + 1));
        row.scale_set_id = Some(ScaleSetId(1));
        state.instances.insert(name, Arc::new(row));
    }
    state
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for count in SIZES {
        let state = state(count);
        let spec = PoolSpec { max_runners: count * 2, ..PoolSpec::default() };
        let in_flight = BTreeSet::new();
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |bencher, _| {
            bencher.iter(|| {
                let snapshot = Snapshot {
                    backend_identity: Some("engine"),
                    ..Snapshot::unhindered(&state, &spec, &in_flight)
                };
                plan(&snapshot, NOW)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, deciding);
criterion_main!(benches);
