//! Whatever a host sends, the controller answers: no panic, no plan outside of its limits.

use proptest::prelude::*;

use super::host::Host;
use crate::controller::Plan;
use crate::nvme::command::{COMMAND_BYTES, Command};
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::subsystem::fixture;

/// Capacity of the fixture's namespaces in bytes.
const SIZE_BYTES: u64 = 1 << 30;

/// A command of mostly random bytes whose opcode, flags and namespace id are often plausible.
fn command() -> impl Strategy<Value = Command> {
    let opcode = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0x00_u8, 0x01, 0x02, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7f
        ]),
    ];
    let sparse = prop_oneof![3 => Just(0_u8), 1 => any::<u8>()];
    let sgl_type = prop::sample::select(vec![0x40_u8, 0x4f, 0x01, 0x00]);
    (
        prop::collection::vec(sparse, COMMAND_BYTES),
        opcode,
        0_u8..4,
        sgl_type,
        any::<bool>(),
    )
        .prop_map(|(bytes, opcode, namespace, sgl_type, plausible)| {
            let mut bytes: [u8; COMMAND_BYTES] = bytes.try_into().unwrap();
            bytes[0] = opcode;
            if plausible {
                bytes[1] = 0x40;
                bytes[4..8].copy_from_slice(&[namespace, 0, 0, 0]);
                bytes[39] = sgl_type;
            }
            Command::from_bytes(bytes)
        })
}

fn carry_out(host: &mut Host, queue_id: u16, command: &Command, fill: u8) -> Result<(), TestCaseError> {
    let mut plan = host.controller.begin(queue_id, command, 4096, host.now);
    let limit = host.model.limits.transfer_bytes_max();
    loop {
        let (_, length) = plan.transfer();
        prop_assert!(length <= limit);
        match plan {
            Plan::Receive { length } => {
                plan = host
                    .controller
                    .received(queue_id, command, &vec![fill; length as usize], host.now);
                let data_twice = matches!(plan, Plan::Receive { .. });
                prop_assert!(!data_twice);
                continue;
            }
            Plan::Produce { length } => {
                let mut out = vec![0; length as usize];
                let completion = host.controller.produce(queue_id, command, &mut out, host.now);
                prop_assert_eq!(completion.command_id, command.command_id());
            }
            Plan::Complete(completion) | Plan::CompleteAndClose(completion) => {
                prop_assert_eq!(completion.command_id, command.command_id());
            }
            Plan::Io(io) => prop_assert!(io.offset.checked_add(io.length).is_some_and(|end| end <= SIZE_BYTES)),
            Plan::Deallocate(ranges) => {
                for index in 0..ranges.ranges {
                    let data = vec![fill; usize::from(ranges.ranges) * 16];
                    if let Some(io) = ranges.range(&data, index) {
                        prop_assert!(io.offset.checked_add(io.length).is_some_and(|end| end <= SIZE_BYTES));
                    }
                }
            }
            Plan::Hold => {}
        }
        return Ok(());
    }
}

proptest! {
    #[test]
    fn any_commands_on_any_queue(
        commands in prop::collection::vec((0_u16..3, command(), any::<u8>()), 1..40),
        discovery in any::<bool>(),
    ) {
        let mut host = if discovery {
            Host::enabled(fixture::model(), DISCOVERY_NQN)
        } else {
            Host::ready(fixture::model())
        };
        for (queue_id, command, fill) in commands {
            carry_out(&mut host, queue_id, &command, fill)?;
            while host.controller.next_event().is_some() {}
            for queue_id in host.controller.take_io_queues_to_close() {
                host.controller.queue_closed(queue_id);
            }
        }
    }
}
