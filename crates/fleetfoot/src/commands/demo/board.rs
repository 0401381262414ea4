//! The live board: two pools with their slots, the jobs, what happened last.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::picture::{ControllerState, Jobs, Picture, PoolPicture, Slot};
use super::script::POOLS;

/// Events that are shown.
pub(super) const EVENTS_MAX: usize = 6;
const BAR: usize = 24;
const JOBS_BAR: usize = 40;

/// Lines that the board takes.
pub(super) fn height() -> u16 {
    let slots: u32 = POOLS.iter().map(|(_, limit)| limit).sum();
    let pools = u32::try_from(POOLS.len()).unwrap_or(0);
    let events = u32::try_from(EVENTS_MAX).unwrap_or(0);
    // A head, a line between parts, one for the jobs.
    u16::try_from(2 + slots + pools * 2 + 2 + events).unwrap_or(u16::MAX)
}

/// A picture with what happened before it.
pub(super) struct Board<'a> {
    pub(super) picture: &'a Picture,
    pub(super) events: &'a VecDeque<(Duration, String)>,
}

impl Widget for Board<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let mut lines = vec![head(self.picture), Line::default()];
        for pool in &self.picture.pools {
            lines.push(pool_line(pool));
            lines.extend(pool.slots.iter().map(slot_line));
            lines.push(Line::default());
        }
        lines.push(jobs_line(self.picture.jobs));
        lines.push(Line::default());
        lines.extend(self.events.iter().map(|(at, text)| {
            Line::from(vec![
                format!("{:>6.1} s  ", at.as_secs_f64()).dim(),
                Span::raw(text.clone()).dim(),
            ])
        }));
        Paragraph::new(lines).render(area, buffer);
    }
}

fn head(picture: &Picture) -> Line<'static> {
    let controller = match picture.controller {
        ControllerState::Up { pid, uptime } => {
            format!("fleetfoot run, pid {pid}, up {} s", uptime.as_secs()).green()
        }
        ControllerState::Dead { downtime } => {
            format!("fleetfoot is dead since {:.1} s; its jobs run on", downtime.as_secs_f64())
                .red()
                .bold()
        }
    };
    let clock = format!("{:>5.1} s", picture.elapsed.as_secs_f64());
    Line::from(vec!["fleetfoot demo".bold(), "   ".into(), clock.into(), "   ".into(), controller])
}

fn pool_line(pool: &PoolPicture) -> Line<'static> {
    let taken = pool
        .slots
        .iter()
        .filter(|slot| !matches!(slot, Slot::Free | Slot::Stopping { .. }))
        .count();
    let limit = pool.slots.len();
    Line::from(vec![
        format!("{:<14}", pool.name).bold(),
        format!("{taken} of {limit} slots   {} jobs waiting   {} done", pool.waiting, pool.done)
            .into(),
    ])
}

fn slot_line(slot: &Slot) -> Line<'static> {
    let (mark, word, color, instance) = match slot {
        Slot::Free => return Line::from("  · free".dim()),
        Slot::Starting { instance } => ("◔", "starting", Color::Yellow, instance),
        Slot::Idle { instance } => ("○", "idle", Color::Cyan, instance),
        Slot::Running { instance, .. } => ("●", "running", Color::Green, instance),
        Slot::Stopping { instance } => ("◌", "stopping", Color::DarkGray, instance),
    };
    let style = Style::new().fg(color);
    let mut spans = vec![
        Span::styled(format!("  {mark} {word:<9}"), style),
        Span::raw(format!("{instance:<22}")),
    ];
    if let Slot::Running { job, since_ms, of_ms, .. } = slot {
        spans.push(Span::styled(bar(*since_ms, *of_ms, BAR), style));
        spans.push(Span::raw(format!("  {job}")));
    }
    Line::from(spans)
}

fn jobs_line(jobs: Jobs) -> Line<'static> {
    let wide = |count: usize| (count * JOBS_BAR).checked_div(jobs.all).unwrap_or(0);
    let (done, running) = (wide(jobs.done), wide(jobs.done + jobs.running) - wide(jobs.done));
    let rest = JOBS_BAR.saturating_sub(done + running);
    Line::from(vec![
        Span::styled("jobs  ", Modifier::BOLD),
        "█".repeat(done).green(),
        "▓".repeat(running).yellow(),
        "░".repeat(rest).dim(),
        format!(
            "  {} done, {} running, {} waiting, of {}",
            jobs.done, jobs.running, jobs.waiting, jobs.all
        )
        .into(),
    ])
}

/// How far something is.
pub(super) fn bar(part: u64, whole: u64, width: usize) -> String {
    let wide = u64::try_from(width).unwrap_or(0);
    let full = part.saturating_mul(wide).checked_div(whole).unwrap_or(0).min(wide);
    let full = usize::try_from(full).unwrap_or(width);
    format!("{}{}", "━".repeat(full), "╌".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let running = Slot::Running {
            instance: "linux-0000beef".to_owned(),
            job: "job 7 test".to_owned(),
            since_ms: 500,
            of_ms: 1000,
        };
        let starting = Slot::Starting { instance: "linux-large-00c0ffee".to_owned() };
        Picture {
            elapsed: Duration::from_millis(7_300),
            controller: ControllerState::Up { pid: 4242, uptime: Duration::from_secs(3) },
            pools: vec![
                PoolPicture {
                    name: "linux",
                    slots: vec![running, Slot::Free, Slot::Free, Slot::Free],
                    waiting: 3,
                    done: 20,
                },
                PoolPicture {
                    name: "linux-large",
                    slots: vec![starting, Slot::Free],
                    waiting: 1,
                    done: 9,
                },
            ],
            jobs: Jobs { all: 60, waiting: 4, running: 1, done: 29 },
        }
    }

    #[test]
    fn the_board_shows_pools_slots_jobs_and_events() {
        let events =
            VecDeque::from([(Duration::from_millis(7_100), "job 6 build succeeded".to_owned())]);
        let area = Rect::new(0, 0, 96, height());
        let mut buffer = Buffer::empty(area);
        let picture = picture();
        Board { picture: &picture, events: &events }.render(area, &mut buffer);
        let lines: Vec<String> = (0..area.height)
            .map(|y| {
                (0..area.width)
                    .map(|x| buffer[(x, y)].symbol())
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect();
        assert_eq!(lines[0], "fleetfoot demo     7.3 s   fleetfoot run, pid 4242, up 3 s");
        assert_eq!(lines[2], "linux         1 of 4 slots   3 jobs waiting   20 done");
        assert_eq!(
            lines[3],
            "  ● running  linux-0000beef        ━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌  job 7 test"
        );
        assert_eq!(lines[9], "  ◔ starting linux-large-00c0ffee");
        assert!(lines[12].ends_with("29 done, 1 running, 4 waiting, of 60"), "{}", lines[12]);
        assert_eq!(lines[14], "   7.1 s  job 6 build succeeded");
    }

    #[test]
    fn a_bar_is_never_longer_than_its_place() {
        assert_eq!(bar(0, 0, 3), "╌╌╌");
        assert_eq!(bar(9, 3, 3), "━━━");
    }
}
