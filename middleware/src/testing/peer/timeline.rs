//! What has come to pass of a script; without IO and without timers.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// One thing that a peer does.
#[derive(Clone, Debug)]
pub(super) enum PeerStep {
    Send(Vec<u8>),
    Stall(Duration),
    WaitFor(usize),
    WaitForEnd,
    Reading(bool),
    HalfClose,
    Reset,
}

#[derive(Debug)]
pub(super) struct Timeline {
    steps: VecDeque<PeerStep>,
    /// When the last step was over; `None` before the first look.
    at: Option<Instant>,
    /// The first step is one that waits for us, and waited at the last look.
    waiting: bool,
    /// Bytes we wrote that no step has waited for yet.
    heard: usize,
    /// Our side was shut down.
    heard_end: bool,
    /// What was sent and is not read yet.
    input: VecDeque<Vec<u8>>,
    reading: bool,
    half_closed: bool,
    reset: bool,
}

impl Timeline {
    pub(super) const fn new(steps: VecDeque<PeerStep>) -> Self {
        Self {
            steps,
            at: None,
            waiting: false,
            heard: 0,
            heard_end: false,
            input: VecDeque::new(),
            reading: true,
            half_closed: false,
            reset: false,
        }
    }

    /// Goes through all that has happened until `now`; returns when the next thing will, if that is
    /// a matter of time.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Instant> {
        let mut at = *self.at.get_or_insert(now);
        let mut next = None;
        while let Some(step) = self.steps.front_mut() {
            let over = match step {
                PeerStep::Send(bytes) => {
                    self.input.push_back(std::mem::take(bytes));
                    true
                }
                PeerStep::Stall(time) => match at.checked_add(*time) {
                    Some(end) if end <= now => {
                        at = end;
                        true
                    }
                    end => {
                        next = end;
                        false
                    }
                },
                PeerStep::WaitFor(bytes) => match self.heard.checked_sub(*bytes) {
                    Some(rest) => {
                        self.heard = rest;
                        true
                    }
                    None => false,
                },
                PeerStep::WaitForEnd => self.heard_end,
                PeerStep::Reading(reading) => {
                    self.reading = *reading;
                    true
                }
                PeerStep::HalfClose => {
                    self.half_closed = true;
                    true
                }
                PeerStep::Reset => {
                    self.reset = true;
                    true
                }
            };
            if !over {
                break;
            }
            if matches!(step, PeerStep::WaitFor(_) | PeerStep::WaitForEnd) && self.waiting {
                // What it waited for has happened just now.
                at = now;
            }
            self.waiting = false;
            self.steps.pop_front();
        }
        let front = self.steps.front();
        self.waiting = matches!(front, Some(PeerStep::WaitFor(_) | PeerStep::WaitForEnd));
        self.at = Some(at);
        next
    }

    /// We wrote so many bytes; to be followed by [`advance`](Self::advance).
    pub(super) const fn hear(&mut self, bytes: usize) {
        self.heard += bytes;
    }

    /// Our side was shut down; to be followed by [`advance`](Self::advance).
    pub(super) const fn hear_end(&mut self) {
        self.heard_end = true;
    }

    /// Up to `room` bytes of what one step sent.
    pub(super) fn read(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut bytes = self.input.pop_front()?;
        if bytes.len() > room {
            self.input.push_front(bytes.split_off(room));
        }
        Some(bytes)
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.reading
    }

    pub(super) const fn is_half_closed(&self) -> bool {
        self.half_closed
    }

    pub(super) const fn is_reset(&self) -> bool {
        self.reset
    }
}
