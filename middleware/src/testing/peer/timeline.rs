//! The progress of a script, without I/O or timers.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// A step of a script.
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
    /// When the last step was completed; `None` before the first operation.
    at: Option<Instant>,
    /// Whether the first step waits for us, and already did at the previous check.
    waiting: bool,
    /// Bytes received from us that no step has consumed yet.
    received: usize,
    /// Whether our write side was shut down.
    received_end: bool,
    /// Sent bytes that were not yet read.
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
            received: 0,
            received_end: false,
            input: VecDeque::new(),
            reading: true,
            half_closed: false,
            reset: false,
        }
    }

    /// Performs the steps until `now`; returns the time of the next step, if it is known.
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
                PeerStep::WaitFor(bytes) => match self.received.checked_sub(*bytes) {
                    Some(rest) => {
                        self.received = rest;
                        true
                    }
                    None => false,
                },
                PeerStep::WaitForEnd => self.received_end,
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
                // The awaited event has happened just now.
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

    /// Records bytes that we wrote; call [`advance`](Self::advance) after it.
    pub(super) const fn receive(&mut self, bytes: usize) {
        self.received += bytes;
    }

    /// Records our shutdown; call [`advance`](Self::advance) after it.
    pub(super) const fn receive_end(&mut self) {
        self.received_end = true;
    }

    /// Up to `capacity` bytes sent by one step.
    pub(super) fn read(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let mut bytes = self.input.pop_front()?;
        if bytes.len() > capacity {
            self.input.push_front(bytes.split_off(capacity));
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
