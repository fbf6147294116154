//! The live top on the terminal: events in, screens out. The one file that owns the terminal.

use std::{io, time::Duration};

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
    LIMIT_MAX, feed,
    state::{Action, Query, State},
    view,
};
use crate::{args::Top, config::Settings, users::Users};

/// The screen keeps up with more updates than a second can have; more wait in the feed.
const UPDATES_MAX: usize = 4;
/// How often the screen is drawn again although nothing came, for the words about waiting.
const TICK: Duration = Duration::from_secs(1);

/// Shows the live top until somebody ends it.
pub(crate) async fn live(top: &Top, settings: &Settings) -> Result<()> {
    let limit = settings.limit_up_to(LIMIT_MAX, LIMIT_MAX)?;
    let query = Query {
        by: top.by,
        sort: top.sort,
        filter: top.filter.clone(),
    };
    let (ask, asked) = watch::channel(query.clone());
    let (tell, updates) = mpsc::channel(UPDATES_MAX);
    let stop = Stop::new().map_err(|error| terminal_failure(&error))?;
    // Also puts back the terminal when something panics.
    let terminal = ratatui::try_init().map_err(|error| terminal_failure(&error))?;
    let feed = tokio::spawn(feed::run(settings.clone(), limit, asked, tell));
    let state = State::new(
        settings.server.clone(),
        query,
        usize::try_from(limit).unwrap_or(usize::MAX),
    );
    let outcome = show(terminal, state, &ask, updates, stop).await;
    feed.abort();
    let restored = ratatui::try_restore();
    outcome.and(restored).map_err(|error| terminal_failure(&error))
}

async fn show(
    mut terminal: DefaultTerminal,
    mut state: State,
    ask: &watch::Sender<Query>,
    mut updates: mpsc::Receiver<super::state::Update>,
    mut stop: Stop,
) -> io::Result<()> {
    let users = Users::of_this_machine();
    let mut events = EventStream::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_tick = Instant::now();
    loop {
        terminal.draw(|frame| view::draw(frame, &state, &users))?;
        tokio::select! {
            () = stop.asked() => return Ok(()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    let area = Rect::from((ratatui::layout::Position::ORIGIN, terminal.size()?));
                    match state.key(key, view::page(&state, area)) {
                        Action::Quit => return Ok(()),
                        Action::Ask => drop(ask.send_replace(state.query.clone())),
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
