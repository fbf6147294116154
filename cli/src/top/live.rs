//! The live top on the terminal: events in, screens out. The one file that owns the terminal.

use std::{env, io, time::Duration};

use crossterm::event::{Event, EventStream};
use procscope_startup::{Failure, Result};
use ratatui::{DefaultTerminal, layout::Rect};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::StreamExt as _;

use super::{
    LIMIT_MAX,
    ask::Query,
    feed,
    state::{Action, State, Update},
    theme::{self, Theme},
    trend, view,
};
use crate::{args::Top, config::Settings, users::Users};

/// The screen keeps up with more updates than a second can have; more wait in the feed.
const UPDATES_MAX: usize = 4;
/// How often the screen is drawn again although nothing came, for the words about waiting.
const TICK: Duration = Duration::from_secs(1);

/// Shows the live top until somebody ends it.
pub(crate) async fn live(top: &Top, settings: &Settings) -> Result<()> {
    let limit = settings.limit_up_to(LIMIT_MAX, LIMIT_MAX)?;
    if !can_draw(env::var("TERM").ok().as_deref()) {
        return Err(Failure::failed(
            "the terminal can only print lines (TERM=dumb): print one table with --once",
        ));
    }
    let query = Query::new(top.by, top.sort, top.filter.clone(), settings.hosts.clone());
    let (ask, asked) = watch::channel(query.clone());
    let (want, wanted) = watch::channel(None);
    let (tell, updates) = mpsc::channel(UPDATES_MAX);
    let stop = Stop::new().map_err(|error| terminal_failure(&error))?;
    // Also puts back the terminal when something panics.
    let terminal = ratatui::try_init().map_err(|error| terminal_failure(&error))?;
    let feed = tokio::spawn(feed::run(settings.clone(), limit, asked, tell.clone()));
    let trends = tokio::spawn(trend::run(settings.clone(), wanted, tell));
    let state = State::new(
        settings.server.clone(),
        query,
        usize::try_from(limit).unwrap_or(usize::MAX),
    );
    let theme = theme_of(top);
    let outcome = show(terminal, state, &theme, &ask, &want, updates, stop).await;
    feed.abort();
    trends.abort();
    let restored = ratatui::try_restore();
    outcome.and(restored).map_err(|error| terminal_failure(&error))
}

async fn show(
    mut terminal: DefaultTerminal,
    mut state: State,
    theme: &Theme,
    ask: &watch::Sender<Query>,
    want: &watch::Sender<Option<trend::Wanted>>,
    mut updates: mpsc::Receiver<Update>,
    mut stop: Stop,
) -> io::Result<()> {
    let users = Users::of_this_machine();
    let mut events = EventStream::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_tick = Instant::now();
    loop {
        terminal.draw(|frame| view::draw(frame, &state, &users, theme))?;
        tokio::select! {
            () = stop.asked() => return Ok(()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    let area = Rect::from((ratatui::layout::Position::ORIGIN, terminal.size()?));
                    match state.key(key, view::page(&state, area)) {
                        Action::Quit => return Ok(()),
                        Action::Ask => drop(ask.send_replace(state.query.clone())),
                        Action::Trend => {
                            drop(want.send_replace(state.trend.as_ref().map(|trend| trend.wanted.clone())));
                        }
                        Action::Nothing => {}
                    }
                }
                // Others only change what has to be drawn, as a new size does.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some(update) = updates.recv() => state.update(update),
            now = ticks.tick() => {
                state.tick(now.saturating_duration_since(last_tick));
                last_tick = now;
            }
        }
    }
}

/// A dumb terminal does not move its cursor.
fn can_draw(term: Option<&str>) -> bool {
    term != Some("dumb")
}

fn theme_of(top: &Top) -> Theme {
    let read = |name| env::var(name).ok();
    let (no_color, term, colorterm) = (read("NO_COLOR"), read("TERM"), read("COLORTERM"));
    let colorfgbg = read("COLORFGBG");
    let terminal = theme::Terminal {
        no_color: no_color.as_deref(),
        term: term.as_deref(),
        colorterm: colorterm.as_deref(),
        colorfgbg: colorfgbg.as_deref(),
    };
    Theme::new(top.colors, terminal)
}

/// Everything that politely asks a program to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn terminal_failure(error: &io::Error) -> Failure {
    Failure::failed(format_args!(
        "could not use the terminal: {error}; print one table with --once"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_gets_no_screen() {
        assert!(!can_draw(Some("dumb")));
        assert!(can_draw(Some("xterm-256color")) && can_draw(None));
    }
}
