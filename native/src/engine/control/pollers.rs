//! Pollers as the control loop knows them: a mailbox each way and counters.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::{Event, HostFields, Level, close_reason_name};
use super::port::Reason;
use super::{Control, Now};
use crate::backend::Backend;
use crate::engine::association::Place;
use crate::engine::counters::PollerCounters;
use crate::engine::fence::Asker;
use crate::engine::mailbox::{NeverAsleep, Receiver, SendError, Sender, Wake, mailbox};
use crate::engine::messages::{Handle, HostIdentity, PollerEvent, ToControl, ToPoller};
use crate::engine::poller::PollerParts;
use crate::lifecycle;
use crate::provider::Provider;
use crate::subsystem::model::Model;
use crate::subsystem::spec::PollingMode;

/// Pause after pollers could not be started.
const START_RETRY: Duration = Duration::from_secs(2);

/// Messages taken from one poller in one step.
const MESSAGES_PER_STEP: usize = 4096;

/// The control loop's ends of a poller.
#[derive(Debug)]
pub struct PollerLink<P: Provider, B: Backend> {
    /// To the poller.
    pub to: Sender<ToPoller<P, B>>,
    /// From the poller.
    pub from: Receiver<ToControl<P>>,
    /// What it counts.
    pub counters: Arc<PollerCounters>,
}

/// The mailboxes between a poller and the control loop, one each way.
#[derive(Debug)]
pub struct Mailboxes {
    /// Messages each has room for; what does not fit waits with its sender.
    pub room: usize,
    /// Wakes the poller.
    pub wake_poller: Arc<dyn Wake>,
    /// Wakes the control loop.
    pub wake_control: Arc<dyn Wake>,
}

impl Mailboxes {
    /// Between a poller and a control loop that are stepped, and never sleep.
    #[must_use]
    pub fn stepped(room: usize) -> Self {
        Self {
            room,
            wake_poller: Arc::new(NeverAsleep),
            wake_control: Arc::new(NeverAsleep),
        }
    }
}

/// What a poller is built with, and the control loop's ends of it.
#[must_use]
pub fn wire<P: Provider, B: Backend>(
    provider: P,
    backend: B::Queue,
    place: Place,
    model: &Arc<Model>,
    mailboxes: Mailboxes,
) -> (PollerParts<P, B>, PollerLink<P, B>) {
    let (to, inbox) = mailbox(mailboxes.room, mailboxes.wake_poller);
    let (outbox, from) = mailbox(mailboxes.room, mailboxes.wake_control);
    let counters = Arc::new(PollerCounters::default());
    let parts = PollerParts {
        provider,
        backend,
        place,
        model: Arc::clone(model),
        inbox,
        outbox,
        counters: Arc::clone(&counters),
    };
    (parts, PollerLink { to, from, counters })
}

/// Starts pollers: threads in the runtime, values that the test steps in tests.
pub trait PollerHost<P: Provider, B: Backend>: fmt::Debug + Send {
    /// Starts one.
    ///
    /// # Errors
    /// Why it cannot, and what to change.
    fn start(&mut self, place: Place, mode: PollingMode, model: &Arc<Model>) -> Result<PollerLink<P, B>, Reason>;
    /// Changes how all of them wait.
    fn set_mode(&mut self, mode: PollingMode);
}

#[derive(Debug)]
struct Remote<P: Provider, B: Backend> {
    link: PollerLink<P, B>,
    /// Messages that found the mailbox full.
    waiting: VecDeque<ToPoller<P, B>>,
    quiet: bool,
    /// Last model of which it said that paths are clear; 0 before the first.
    paths_clear: u64,
    stopped: bool,
    /// Its last question about a fence; 0 before the first.
    last_question: u64,
    /// A message taken from the mailbox and not looked at yet.
    heard: Option<ToControl<P>>,
}

/// Where the set of pollers stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None is wanted yet.
    None,
    /// To be started.
    Starting { not_before: Option<Instant> },
    /// They run.
    Running,
    /// Ports drain, because another number of pollers is wanted.
    Draining,
    /// They were told to leave.
    Stopping,
}

/// All pollers.
#[derive(Debug)]
pub struct Pollers<P: Provider, B: Backend, H: PollerHost<P, B>> {
    host: H,
    remotes: Vec<Remote<P, B>>,
    stage: Stage,
    wanted: usize,
    mode: PollingMode,
    /// After stopping, none is wanted any more.
    leaving: bool,
    /// Counters of pollers that are gone.
    retired: Vec<Arc<PollerCounters>>,
    /// Questions about a fence, by poller and number, and how many answers are still to come.
    questions: BTreeMap<(usize, u64), (Handle, usize)>,
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Pollers<P, B, H> {
    pub(super) fn new(host: H) -> Self {
        Self {
            host,
            remotes: Vec::new(),
            stage: Stage::None,
            wanted: 0,
            mode: PollingMode::default(),
            leaving: false,
            retired: Vec::new(),
            questions: BTreeMap::new(),
        }
    }

    /// Pollers that run.
    pub(super) fn len(&self) -> usize {
        self.remotes.len()
    }

    /// They run, and will go on running.
    pub(super) fn serve(&self) -> bool {
        self.stage == Stage::Running
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &PollerCounters> {
        self.remotes.iter().map(|remote| &*remote.link.counters)
    }

    /// Counters of all pollers there ever were.
    pub(super) fn all_counters(&self) -> impl Iterator<Item = &PollerCounters> {
        self.counters().chain(self.retired.iter().map(|counters| &**counters))
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.remotes.iter().any(|remote| !remote.waiting.is_empty())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Starting { not_before } => not_before,
            _ => None,
        }
    }

    /// A poller has said something. Takes one message of each to find out; it is heard first at the next step.
    pub(super) fn has_messages(&mut self) -> bool {
        for remote in &mut self.remotes {
            if remote.heard.is_none() {
                remote.heard = remote.link.from.take();
            }
        }
        self.remotes.iter().any(|remote| remote.heard.is_some())
    }

    /// Sends, in order, whatever the mailbox's room.
    pub(super) fn tell(&mut self, poller: usize, message: ToPoller<P, B>) {
        if let Some(remote) = self.remotes.get_mut(poller) {
            remote.waiting.push_back(message);
            remote.flush();
        }
    }

    /// Sends what had no room.
    pub(super) fn flush(&mut self) {
        for remote in &mut self.remotes {
            remote.flush();
        }
    }

    pub(super) fn tell_all(&mut self, message: impl Fn() -> ToPoller<P, B>) {
        for poller in 0..self.remotes.len() {
            self.tell(poller, message());
        }
    }

    /// A poller's host may have left writes on any other. Each of them waits for what came before this question in the
    /// order in which questions come here, and for nothing later: so no two ever wait for each other.
    pub(super) fn ask_others(
        &mut self,
        poller: usize,
        fence: Handle,
        question: u64,
        host_nqn: &str,
        subsystem_nqn: &str,
    ) {
        let others: Vec<usize> = (0..self.remotes.len()).filter(|other| *other != poller).collect();
        if let Some(remote) = self.remotes.get_mut(poller) {
            remote.last_question = question;
        }
        self.questions.insert((poller, question), (fence, others.len()));
        for other in others {
            let asker = Asker {
                poller,
                fence,
                question,
                until: self.remotes[other].last_question,
            };
            let query = ToPoller::FenceQuery {
                asker,
                host_nqn: host_nqn.to_owned(),
                subsystem_nqn: subsystem_nqn.to_owned(),
            };
            self.tell(other, query);
        }
        self.lift_fence(poller, question);
    }

    /// A poller has nothing left that another asked about.
    fn fence_clear(&mut self, asker: Asker) {
        if let Some((_, answers_due)) = self.questions.get_mut(&(asker.poller, asker.question)) {
            *answers_due = answers_due.saturating_sub(1);
            self.lift_fence(asker.poller, asker.question);
        }
    }

    fn lift_fence(&mut self, poller: usize, question: u64) {
        if let Some((fence, 0)) = self.questions.get(&(poller, question)).copied() {
            self.questions.remove(&(poller, question));
            self.tell(poller, ToPoller::FenceLifted { fence, question });
        }
    }

    /// Questions about fences that are open now.
    #[cfg(test)]
    pub(super) fn fences_asked(&self) -> usize {
        self.questions.len()
    }

    /// Nothing is in flight on any of them.
    pub(super) fn all_quiet(&self) -> bool {
        self.remotes.iter().all(|remote| remote.quiet)
    }

    /// All of them said that paths are clear, of this model or a later one.
    pub(super) fn paths_clear_since(&self, revision: u64) -> bool {
        self.remotes.iter().all(|remote| remote.paths_clear >= revision)
    }

    /// Wants so many, waiting for work in this way.
    pub(super) fn want(&mut self, count: usize, mode: PollingMode) {
        if mode != self.mode {
            self.mode = mode;
            self.host.set_mode(mode);
        }
        self.wanted = count;
        match self.stage {
            Stage::None => self.stage = Stage::Starting { not_before: None },
            // A drain that has begun goes through, also when the number is wanted back: ports were told to stop, and are
            // told to start with the new pollers.
            Stage::Running if self.remotes.len() != count => self.stage = Stage::Draining,
            _ => {}
        }
    }

    /// Wants none any more. Every port must be at rest.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.stop();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn stop(&mut self) {
        if !matches!(self.stage, Stage::Stopping) {
            self.stage = Stage::Stopping;
            self.tell_all(|| ToPoller::Stop);
        }
    }

    /// All of them have left and none comes after.
    pub(super) fn have_left(&self) -> bool {
        self.leaving && self.remotes.iter().all(|remote| remote.stopped)
    }
}

impl<P: Provider, B: Backend> Remote<P, B> {
    fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            match self.link.to.send(message) {
                Ok(()) => {}
                Err(SendError::Full(message)) => {
                    self.waiting.push_front(message);
                    return;
                }
                // A poller only leaves after `Stop`, or with the whole process after a panic.
                Err(SendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    pub(super) fn tell(&mut self, poller: usize, message: ToPoller<P, B>) {
        self.pollers.tell(poller, message);
    }

    /// Starts pollers that are wanted, and changes their number: ports drain first, for their queue pairs belong to
    /// the pollers there are.
    pub(super) fn advance_pollers(&mut self, now: Now) {
        match self.pollers.stage {
            Stage::Starting { not_before } if not_before.is_none_or(|at| at <= now.instant) => {
                self.start_pollers(now);
            }
            Stage::Draining => {
                let serving: Vec<_> = self
                    .ports
                    .values()
                    .filter(|port| port.state.wanted)
                    .map(|port| port.id)
                    .collect();
                let reason = || Reason::new("PollersChanging", "the number of pollers changes");
                for id in serving {
                    self.feed(id, lifecycle::Event::Stop, Some(reason()), now);
                }
                if self.ports.values().all(super::port::Port::is_at_rest) {
                    self.pollers.stop();
                }
            }
            Stage::Stopping if !self.pollers.leaving && self.pollers.remotes.iter().all(|remote| remote.stopped) => {
                let gone = std::mem::take(&mut self.pollers.remotes);
                self.pollers.questions.clear();
                self.pollers
                    .retired
                    .extend(gone.into_iter().map(|remote| remote.link.counters));
                self.backings.all_detached(&mut self.journal, now);
                self.start_pollers(now);
            }
            _ => {}
        }
    }

    fn start_pollers(&mut self, now: Now) {
        let count = self.pollers.wanted;
        let mut remotes = Vec::with_capacity(count);
        for index in 0..count {
            let place = Place {
                index: u16::try_from(index).unwrap_or(u16::MAX),
                count: u16::try_from(count).unwrap_or(u16::MAX),
            };
            match self.pollers.host.start(place, self.pollers.mode, &self.model) {
                Ok(link) => remotes.push(Remote {
                    link,
                    waiting: VecDeque::new(),
                    quiet: false,
                    paths_clear: 0,
                    stopped: false,
                    last_question: 0,
                    heard: None,
                }),
                Err(reason) => {
                    for remote in &remotes {
                        // A poller that never had anything leaves at once.
                        let _ = remote.link.to.send(ToPoller::Stop);
                    }
                    let event = Event::ApplyProblem {
                        generation: self.generation,
                        field: "spec.polling".to_owned(),
                        reason: reason.code,
                        message: reason.message,
                    };
                    self.journal.report_as(Level::Error, event, now);
                    self.pollers.remotes.clear();
                    self.pollers.stage = Stage::Starting {
                        not_before: Some(now.instant + START_RETRY),
                    };
                    return;
                }
            }
        }
        self.pollers.remotes = remotes;
        self.pollers.stage = Stage::Running;
        let open: Vec<_> = self.backings.open_ones().collect();
        for (id, backing) in open {
            self.pollers
                .tell_all(|| ToPoller::AttachBacking(id, Arc::clone(&backing)));
        }
        self.model_stale = true;
        for port in self.ports.values_mut() {
            port.counters = (0..count).map(|_| Arc::default()).collect();
        }
        let wanted: Vec<_> = self
            .ports
            .values()
            .filter(|port| !port.removed)
            .map(|port| port.id)
            .collect();
        if self.quiesce.is_none() {
            for id in wanted {
                self.feed(id, lifecycle::Event::Start, None, now);
            }
        }
    }

    pub(super) fn take_poller_messages(&mut self, now: Now) {
        for poller in 0..self.pollers.remotes.len() {
            for _ in 0..MESSAGES_PER_STEP {
                let remote = &mut self.pollers.remotes[poller];
                let Some(message) = remote.heard.take().or_else(|| remote.link.from.take()) else {
                    break;
                };
                self.poller_message(poller, message, now);
            }
        }
    }

    fn poller_message(&mut self, poller: usize, message: ToControl<P>, now: Now) {
        match message {
            ToControl::Adopted(key, handle) => self.adopted(key, handle, now),
            ToControl::Refused(key, queue_pair) => self.refused(key, queue_pair, now),
            ToControl::QueuePairDrained {
                connection,
                queue_pair,
                reason,
            } => {
                self.queue_pair_drained(connection, queue_pair, reason, now);
            }
            ToControl::PortDrained(resources) => self.share_returned(poller, resources, now),
            ToControl::PortQuarantined {
                port,
                epoch,
                queue_pairs,
                backend_ios,
            } => {
                self.share_quarantined(port, epoch, queue_pairs, backend_ios);
            }
            ToControl::FenceAsked {
                fence,
                question,
                host_nqn,
                subsystem_nqn,
            } => self
                .pollers
                .ask_others(poller, fence, question, &host_nqn, &subsystem_nqn),
            ToControl::FenceClear(asker) => self.pollers.fence_clear(asker),
            ToControl::QueueBroken { port, epoch, error } => self.queue_broken(port, epoch, &error, now),
            ToControl::BackingDetached(id) => self.backings.detached(id, &mut self.journal, now),
            ToControl::Event(event) => self.poller_event(poller, *event, now),
            ToControl::Quiet => self.pollers.remotes[poller].quiet = true,
            ToControl::PathsClear { revision } => self.pollers.remotes[poller].paths_clear = revision,
            ToControl::Stopped => self.pollers.remotes[poller].stopped = true,
        }
    }

    fn poller_event(&mut self, poller: usize, event: PollerEvent, now: Now) {
        match event {
            PollerEvent::HostConnected(host) => {
                self.journal.report(Event::HostConnected(host_fields(&host, None)), now);
                self.hosts.connected(poller, host, now);
            }
            PollerEvent::HostDisconnected(host, reason) => {
                self.hosts.disconnected(poller, &host);
                let fields = host_fields(&host, Some(close_reason_name(reason)));
                self.journal.report(Event::HostDisconnected(fields), now);
            }
            PollerEvent::HostQueues {
                subsystem_nqn,
                controller_id,
                queue_pairs,
            } => {
                self.hosts.queues(poller, &subsystem_nqn, controller_id, queue_pairs);
            }
            PollerEvent::ConnectRefused {
                host_nqn,
                subsystem_nqn,
                source,
                reason,
            } => {
                let event = Event::ConnectRejected {
                    reason,
                    source,
                    host_nqn: Some(host_nqn),
                    subsystem: Some(subsystem_nqn),
                };
                self.journal.report_limited(event, now);
            }
            PollerEvent::QueuePairQuarantined {
                listener,
                source,
                queue_id,
                reason,
                work_requests,
                backend_ios,
            } => {
                let message = format!(
                    "closed ({}) and not given back within the drain timeout: {work_requests} work requests are with the \
                     device and {backend_ios} I/Os with the backend; its memory is kept until they come back",
                    close_reason_name(reason)
                );
                let event = Event::QueuePairQuarantined {
                    listener: listener.to_string(),
                    source,
                    queue_id,
                    work_requests,
                    backend_ios,
                    message,
                };
                self.journal.report_limited(event, now);
            }
            PollerEvent::BackendError {
                subsystem_nqn,
                namespace_id,
                errno,
            } => {
                let event = Event::BackendError {
                    subsystem: subsystem_nqn,
                    nsid: namespace_id,
                    errno,
                };
                self.journal.report_limited(event, now);
            }
        }
    }
}

fn host_fields(host: &HostIdentity, reason: Option<&'static str>) -> HostFields {
    HostFields {
        subsystem: host.subsystem_nqn.clone(),
        host_nqn: host.host_nqn.clone(),
        controller_id: host.controller_id,
        listener: host.listener.to_string(),
        source: host.source,
        discovery: host.discovery,
        reason,
    }
}
