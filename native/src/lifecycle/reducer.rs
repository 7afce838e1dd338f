//! The reducer itself, one function per event that does something.

use std::time::Instant;

use super::{ARMING_ATTEMPTS_MAX, Action, Actions, CALM, Event, Phase, PortState, RESTLESS_MAX, Settings, backoff};

/// The state after `event`, and what to do, in order. Total: every event is answered in every phase, and what does not
/// concern a phase changes nothing.
#[must_use]
pub fn reduce(settings: &Settings, state: &PortState, event: Event, now: Instant) -> (PortState, Actions) {
    let mut step = Step {
        settings,
        now,
        next: *state,
        actions: Actions::new(),
    };
    match event {
        Event::LinkUp => step.link_up(),
        Event::LinkDown => step.link_down(),
        Event::AddressLost | Event::DeviceRemoved => {
            step.path_lost();
            step.give_up_epoch();
        }
        Event::DeviceFatal | Event::ManagementQueuePairDead => step.device_broken(),
        Event::Tick => step.tick(),
        Event::Armed => step.armed(Phase::Serving),
        Event::ArmedPartly => {
            let retry_at = Some(now + backoff(settings, state.epoch, 1));
            step.armed(Phase::Degraded { retry_at });
        }
        Event::ArmFailed => step.arm_failed(),
        Event::RegistrationCompleted => step.registration_completed(),
        Event::RegistrationStalled => step.registration_stalled(),
        Event::Drained => step.drained(),
        Event::LateWorkFinished => step.late_work_finished(),
        Event::Restart => step.restart(),
        Event::Stop => {
            step.next.wanted = false;
            step.give_up_epoch();
        }
        Event::Start => {
            step.next.wanted = true;
            step.arm_if_stable();
        }
    }
    (step.next, step.actions)
}

/// When [`Event::Tick`] is due next, if nothing else happens.
#[must_use]
pub fn deadline(settings: &Settings, state: &PortState) -> Option<Instant> {
    let stable_at = state.stable_at(settings);
    let of_phase = match state.phase {
        Phase::Down | Phase::Quarantined => stable_at.filter(|_| state.wanted),
        Phase::Arming { retry_at } | Phase::Degraded { retry_at } => retry_at,
        Phase::Holding { until, .. } => Some(until),
        Phase::Draining { deadline, .. } => Some(deadline),
        Phase::Failed { retry_at } => Some(retry_at),
        Phase::Serving => None,
    };
    let of_telling = stable_at.filter(|_| state.untold);
    of_phase.into_iter().chain(of_telling).min()
}

struct Step<'a> {
    settings: &'a Settings,
    now: Instant,
    next: PortState,
    actions: Actions,
}

impl Step<'_> {
    fn link_up(&mut self) {
        let came_up = self.next.up_since.is_none();
        if came_up {
            self.next.up_since = Some(self.now);
            self.next.untold = self.next.restless > 0;
            if !self.next.untold {
                self.actions.push(Action::TellHosts);
            }
        }
        match self.next.phase {
            Phase::Holding { degraded, .. } => {
                let retry_at = Some(self.now + backoff(self.settings, self.next.epoch, 1));
                self.next.phase = if degraded {
                    Phase::Degraded { retry_at }
                } else {
                    Phase::Serving
                };
                self.actions.push(Action::Resume { epoch: self.next.epoch });
            }
            Phase::Failed { retry_at } if came_up => {
                let stable_at = self.next.stable_at(self.settings).unwrap_or(retry_at);
                let retry_at = retry_at.min(stable_at);
                self.next.phase = Phase::Failed { retry_at };
            }
            Phase::Down | Phase::Quarantined => self.arm_if_stable(),
            _ => {}
        }
    }

    /// The path is not usable any more; was it up for long?
    fn path_lost(&mut self) {
        if let Some(since) = self.next.up_since.take() {
            let short = self.now.saturating_duration_since(since) < CALM;
            self.next.restless = if short {
                RESTLESS_MAX.min(self.next.restless + 1)
            } else {
                0
            };
        }
        self.next.untold = false;
    }

    fn is_stable(&self) -> bool {
        self.next.stable_at(self.settings).is_some_and(|at| at <= self.now)
    }

    fn link_down(&mut self) {
        self.path_lost();
        let degraded = matches!(self.next.phase, Phase::Degraded { .. });
        match self.next.phase {
            Phase::Serving | Phase::Degraded { .. } => {
                self.next.phase = Phase::Holding {
                    until: self.now + self.settings.hold,
                    degraded,
                };
                self.actions.push(Action::Hold { epoch: self.next.epoch });
            }
            Phase::Arming { .. } | Phase::Failed { .. } => self.give_up_epoch(),
            _ => {}
        }
    }

    fn device_broken(&mut self) {
        match &mut self.next.phase {
            Phase::Draining { fatal, .. } => *fatal = true,
            Phase::Serving | Phase::Degraded { .. } | Phase::Holding { .. } => self.drain(true),
            Phase::Arming { .. } => {
                self.actions.push(Action::AbandonArming);
                self.fail();
            }
            Phase::Down | Phase::Quarantined | Phase::Failed { .. } => self.fail(),
        }
    }

    fn tick(&mut self) {
        if self.next.untold && self.is_stable() {
            self.next.untold = false;
            self.actions.push(Action::TellHosts);
        }
        match self.next.phase {
            Phase::Down | Phase::Quarantined => self.arm_if_stable(),
            Phase::Arming { retry_at: Some(at) } if at <= self.now => {
                self.next.phase = Phase::Arming { retry_at: None };
                self.actions.push(Action::Arm { epoch: self.next.epoch });
            }
            Phase::Degraded { retry_at: Some(at) } if at <= self.now => {
                self.next.phase = Phase::Degraded { retry_at: None };
                self.actions
                    .push(Action::CompleteRegistration { epoch: self.next.epoch });
            }
            Phase::Holding { until, .. } if until <= self.now => self.drain(false),
            Phase::Draining { deadline, fatal } if deadline <= self.now => {
                self.actions.push(Action::Quarantine { epoch: self.next.epoch });
                self.next.unfinished_epochs += 1;
                if fatal {
                    self.fail();
                } else {
                    self.next.phase = Phase::Quarantined;
                    self.arm_if_stable();
                }
            }
            Phase::Failed { retry_at } if retry_at <= self.now => {
                if self.next.wanted && self.next.up_since.is_some() {
                    self.begin_arming();
                } else {
                    self.rest();
                }
            }
            _ => {}
        }
    }

    fn armed(&mut self, phase: Phase) {
        if matches!(self.next.phase, Phase::Arming { .. }) {
            self.next.phase = phase;
            self.next.attempts = 0;
            self.actions.push(Action::Publish { epoch: self.next.epoch });
        }
    }

    fn arm_failed(&mut self) {
        if !matches!(self.next.phase, Phase::Arming { .. }) {
            return;
        }
        self.next.attempts = self.next.attempts.saturating_add(1);
        if self.next.attempts >= ARMING_ATTEMPTS_MAX {
            self.fail();
        } else {
            let pause = backoff(self.settings, self.next.epoch, self.next.attempts);
            self.next.phase = Phase::Arming {
                retry_at: Some(self.now + pause),
            };
        }
    }

    fn registration_completed(&mut self) {
        if matches!(self.next.phase, Phase::Degraded { .. }) {
            self.next.phase = Phase::Serving;
            self.next.attempts = 0;
        }
    }

    fn registration_stalled(&mut self) {
        if matches!(self.next.phase, Phase::Degraded { .. }) {
            self.next.attempts = self.next.attempts.saturating_add(1);
            let pause = backoff(self.settings, self.next.epoch, self.next.attempts.saturating_add(1));
            self.next.phase = Phase::Degraded {
                retry_at: Some(self.now + pause),
            };
        }
    }

    fn drained(&mut self) {
        if let Phase::Draining { fatal, .. } = self.next.phase {
            self.next.attempts = 0;
            if fatal {
                self.fail();
            } else {
                self.rest();
                self.arm_if_stable();
            }
        }
    }

    fn late_work_finished(&mut self) {
        self.next.unfinished_epochs = self.next.unfinished_epochs.saturating_sub(1);
        if self.next.phase == Phase::Quarantined && self.next.unfinished_epochs == 0 {
            self.next.phase = Phase::Down;
            self.arm_if_stable();
        }
    }

    fn restart(&mut self) {
        if matches!(self.next.phase, Phase::Failed { .. }) {
            self.rest();
            self.arm_if_stable();
        } else {
            self.give_up_epoch();
        }
    }

    /// Leaves whatever holds resources, by way of a drain; phases that hold none come to rest.
    fn give_up_epoch(&mut self) {
        match self.next.phase {
            Phase::Serving | Phase::Degraded { .. } | Phase::Holding { .. } => self.drain(false),
            Phase::Arming { .. } => {
                // Nothing was published: the control loop destroys what it has built and reports `Drained` at once.
                let deadline = self.now + self.settings.drain_timeout;
                self.next.phase = Phase::Draining { deadline, fatal: false };
                self.actions.push(Action::AbandonArming);
            }
            Phase::Failed { .. } => self.rest(),
            Phase::Down | Phase::Draining { .. } | Phase::Quarantined => {}
        }
    }

    fn drain(&mut self, fatal: bool) {
        let deadline = self.now + self.settings.drain_timeout;
        self.next.phase = Phase::Draining { deadline, fatal };
        self.actions.push(Action::Drain {
            epoch: self.next.epoch,
            deadline,
        });
    }

    fn fail(&mut self) {
        let pause = backoff(self.settings, self.next.epoch, u32::MAX);
        self.next.phase = Phase::Failed {
            retry_at: self.now + pause,
        };
    }

    /// Holds nothing of the current epoch any more.
    fn rest(&mut self) {
        self.next.attempts = 0;
        self.next.phase = if self.next.unfinished_epochs > 0 {
            Phase::Quarantined
        } else {
            Phase::Down
        };
    }

    fn arm_if_stable(&mut self) {
        let resting = matches!(self.next.phase, Phase::Down | Phase::Quarantined);
        if resting && self.is_stable() && self.next.wanted {
            self.begin_arming();
        }
    }

    fn begin_arming(&mut self) {
        self.next.epoch += 1;
        self.next.phase = Phase::Arming { retry_at: None };
        self.actions.push(Action::Arm { epoch: self.next.epoch });
    }
}

#[cfg(test)]
#[path = "reducer_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "timing_tests.rs"]
mod timing_tests;
