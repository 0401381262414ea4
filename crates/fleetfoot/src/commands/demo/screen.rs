//! Where the demonstration is shown: a live board on a terminal, else plain lines.

use std::collections::VecDeque;
use std::io::{IsTerminal, Stdout, Write};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::board::{self, Board};
use super::events::Event;
use super::picture::{ControllerState, Picture, Slot};
use crate::cli::Output;

/// Without a board a line tells the state this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The way to the reader.
pub(super) struct Screen {
    output: Output,
    terminal: Option<Terminal<CrosstermBackend<Stdout>>>,
    events: VecDeque<(Duration, String)>,
    told: Option<Duration>,
}

impl Screen {
    pub(super) fn new(output: Output) -> Self {
        Self { output, terminal: None, events: VecDeque::new(), told: None }
    }

    /// Makes room for the board, if there is a terminal for it.
    pub(super) fn open(&mut self) {
        if self.output == Output::Text && std::io::stdout().is_terminal() {
            let options = TerminalOptions { viewport: Viewport::Inline(board::height()) };
            // A terminal that cannot have one gets lines.
            self.terminal =
                Terminal::with_options(CrosstermBackend::new(std::io::stdout()), options).ok();
        }
    }

    /// Leaves the last board where it is and goes on below it.
    pub(super) fn close(&mut self) {
        if let Some(mut terminal) = self.terminal.take() {
            let _ = terminal.show_cursor();
            let below = terminal.get_frame().area().bottom();
            let _ = terminal.set_cursor_position((0, below.saturating_sub(1)));
            let _ = writeln!(std::io::stdout());
        }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        let shown = match &mut self.terminal {
            Some(terminal) => terminal
                .insert_before(1, |buffer| {
                    Paragraph::new(Line::from(text.to_owned())).render(buffer.area, buffer)
                })
                .is_ok(),
            None => false,
        };
        if !shown {
            // What nobody reads any more is no failure.
            let _ = match self.output {
                Output::Text => writeln!(std::io::stdout(), "{text}"),
                Output::Json => writeln!(std::io::stderr(), "{text}"),
            };
        }
    }

    /// Something happened.
    pub(super) fn event(&mut self, at: Duration, event: &Event) {
        if event.is_large() {
            self.line(&format!("{:>6.1} s  {event}", at.as_secs_f64()));
            return;
        }
        if self.events.len() == board::EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((at, event.to_string()));
    }

    /// How it looks now.
    pub(super) fn show(&mut self, picture: &Picture) {
        if let Some(terminal) = &mut self.terminal {
            let events = &self.events;
            let drawn =
                terminal.draw(|frame| frame.render_widget(Board { picture, events }, frame.area()));
            if drawn.is_ok() {
                return;
            }
            self.terminal = None;
        }
        let due = self.told.is_none_or(|told| picture.elapsed >= told + TELL_EVERY);
        if due {
            self.told = Some(picture.elapsed);
            self.line(&plain(picture));
        }
    }
}

/// The picture in one line.
fn plain(picture: &Picture) -> String {
    let mut text = format!("{:>6.1} s  ", picture.elapsed.as_secs_f64());
    for pool in &picture.pools {
        let slots: String = pool
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Free | Slot::Stopping { .. } => '·',
                Slot::Starting { .. } => '◔',
                Slot::Idle { .. } => '○',
                Slot::Running { .. } => '●',
            })
            .collect();
        text.push_str(&format!("{} {slots}   ", pool.name));
    }
    let jobs = picture.jobs;
    text.push_str(&format!(
        "{:>3} waiting {:>2} running {:>3} done",
        jobs.waiting, jobs.running, jobs.done
    ));
    if let ControllerState::Dead { .. } = picture.controller {
        text.push_str("   (fleetfoot is dead)");
    }
    text
}
