//! A correct target under every fault at once: no rule is reported broken, and a seed gives the same run twice.

use super::*;

const CONNECTIONS: u64 = 3;
const ROUNDS: u64 = 60;

/// A target's view of one connection.
struct Session {
    link: Option<Link>,
    failed: bool,
}

/// Deterministic choices of the test's own, apart from the world's.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn fail(target: &Target, session: &mut Session) {
    if let (Some(link), false) = (&mut session.link, session.failed) {
        session.failed = true;
        target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    }
}

/// Answers each capsule with an RDMA WRITE and a SEND, and notes what it saw.
fn serve(target: &Target, sessions: &mut [Session], region: HostRegion, trace: &mut Vec<WorkCompletion>) {
    let mut some = [WorkCompletion::EMPTY; 4];
    loop {
        let provider = &target.provider;
        let count = provider.poll_completions(&target.completion_queue, &mut some).unwrap();
        if count == 0 {
            return;
        }
        trace.extend_from_slice(&some[..count]);
        serve_batch(target, sessions, region, &some[..count]);
    }
}

fn serve_batch(target: &Target, sessions: &mut [Session], region: HostRegion, completions: &[WorkCompletion]) {
    for completion in completions {
        let session = sessions.iter_mut().find(|session| {
            let number = session.link.as_ref().map(|link| link.queue_pair_number(target));
            number == Some(completion.queue_pair_number)
        });
        let Some(session) = session else { continue };
        if completion.status != CompletionStatus::Success {
            fail(target, session);
        } else if completion.kind == CompletionKind::Receive && !session.failed {
            let link = session.link.as_mut().unwrap();
            let write = SendOperation::RdmaWrite {
                remote_address: region.address,
                remote_key: region.key,
            };
            let chain = [
                send(100, write, target.sge(65536, 512), false),
                send(101, SendOperation::Send, target.sge(65536, 16), true),
            ];
            let posted = target.provider.post_sends(&mut link.queue_pair, &chain);
            if posted.is_err() {
                fail(target, session);
            }
        }
        if completion.kind == CompletionKind::Receive && completion.token < u64::from(RECEIVES) {
            target.post_receive(completion.token as u32);
        }
    }
}

impl Link {
    fn queue_pair_number(&self, target: &Target) -> u32 {
        target.provider.queue_pair_number(&self.queue_pair)
    }
}

fn run(seed: u64) -> Vec<WorkCompletion> {
    let sim = SimWorld::adversarial(seed);
    let mut choices = Choices(seed);
    let mut trace = Vec::new();
    sim.fail_completions_randomly(10, 12);
    let (target, host) = target_in(&sim);
    let region = host.register(4096);
    let mut sessions = Vec::new();
    let mut connections = Vec::new();
    for token in 0..CONNECTIONS {
        connections.push(host.connect(address(), &[1; 32]));
        sim.run_until_idle();
        let link = Some(target.answer_request(token));
        sessions.push(Session { link, failed: false });
        sim.run_until_idle();
        assert!(target.provider.next_connection_event().is_some());
    }
    for _ in 0..ROUNDS {
        match choices.below(12) {
            0 => sim.set_link("rxe0", LinkState::Down),
            1 => sim.set_link("rxe0", LinkState::Silent),
            2..=4 => sim.set_link("rxe0", LinkState::Up),
            5..=8 => {
                let connection = connections[choices.below(CONNECTIONS) as usize];
                if host.capsules_waiting(connection) < 4 {
                    host.send(connection, &choices.below(1 << 40).to_le_bytes());
                }
            }
            _ => {
                for _ in 0..choices.below(8) {
                    sim.step();
                }
            }
        }
        serve(&target, &mut sessions, region, &mut trace);
    }
    // The safe way down: fail, reap everything, destroy; speak again only when the link is up.
    for session in &mut sessions {
        fail(&target, session);
    }
    sim.run_until_idle();
    serve(&target, &mut sessions, region, &mut trace);
    let identifiers: Vec<SimConnectionId> = sessions
        .iter_mut()
        .map(|session| session.link.take().unwrap().connection)
        .collect();
    sim.set_link("rxe0", LinkState::Up);
    for identifier in &identifiers {
        target.provider.disconnect(identifier).unwrap();
    }
    sim.run_until_idle();
    drop(identifiers);
    drop(target);
    sim.run_until_idle();
    assert_eq!(sim.violations(), []);
    assert_eq!(sim.live_objects(), LiveObjects::default());
    assert!(!sim.management_dead("rxe0"));
    trace
}

#[test]
fn a_correct_target_breaks_no_rule_and_leaves_nothing_behind() {
    for seed in 0..200 {
        run(seed);
    }
}

#[test]
fn a_seed_gives_the_same_run_twice_and_another_seed_another() {
    assert_eq!(run(7), run(7));
    assert!((0..20).any(|seed| run(seed) != run(seed + 1)));
}
