//! Running out: of buffers, of request slots, of room in the backend.

use super::bench::{Bench, sizing};
use super::host::{TestHost, pattern};
use crate::engine::messages::PortSizing;
use crate::nvme::command::CommandBuilder;
use crate::nvme::opcode::admin;

#[test]
fn requests_without_a_buffer_are_served_in_the_order_they_came() {
    let mut bench = Bench::with_sizing(PortSizing {
        large_buffer_count: 2,
        ..sizing()
    });
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    let commands: Vec<_> = (0..12).map(|index| host.read_command(index * 32, 32).0).collect();
    for command in &commands {
        host.post(queue, command, &[]);
    }
    bench.run();
    assert_eq!(bench.backend.held(), 2, "only so many as there are buffers");
    bench.backend.hold(false);
    bench.run();
    let ids: Vec<_> = host
        .responses(queue)
        .iter()
        .map(|response| response.command_id)
        .collect();
    assert_eq!(
        ids,
        commands.iter().map(|command| command.command_id()).collect::<Vec<_>>()
    );
    let offsets: Vec<_> = bench.backend.executed().iter().map(|executed| executed.2).collect();
    assert_eq!(offsets, (0..12).map(|index| index * 32 * 4096).collect::<Vec<u64>>());
}

#[test]
fn writes_without_a_buffer_keep_their_data_apart() {
    let mut bench = Bench::with_sizing(PortSizing {
        small_buffer_count: 3,
        large_buffer_count: 1,
        ..sizing()
    });
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    for index in 0..20_u8 {
        host.post(
            queue,
            &host
                .write_command(u64::from(index) * 8, &pattern(index, 1 + u32::from(index) % 8))
                .0,
            &[],
        );
    }
    bench.run();
    assert_eq!(host.responses(queue).len(), 20);
    for index in 0..20_u8 {
        let blocks = 1 + u32::from(index) % 8;
        assert_eq!(
            host.read(&mut bench, queue, u64::from(index) * 8, blocks),
            pattern(index, blocks)
        );
    }
}

#[test]
fn admin_commands_and_connects_go_on_while_io_has_taken_every_buffer() {
    let mut bench = Bench::with_sizing(PortSizing {
        small_buffer_count: 9,
        ..sizing()
    });
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    for index in 0..40 {
        host.post(queue, &host.read_command(index, 1).0, &[]);
    }
    bench.run();
    assert!(bench.backend.held() < 10);
    let other = TestHost::connect(&mut bench);
    other.io_queue(&mut bench, 1);
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    assert!(
        host.command(&mut bench, host.admin, keep_alive, &[])
            .status
            .is_success()
    );
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 40);
}

#[test]
fn capsules_without_a_request_slot_wait_and_admin_commands_pass_them() {
    let mut bench = Bench::with_sizing(PortSizing {
        request_count: 16,
        ..sizing()
    });
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    let commands: Vec<_> = (0..30).map(|index| host.read_command(index, 1).0).collect();
    for command in &commands {
        host.post(queue, command, &[]);
    }
    bench.run();
    assert_eq!(bench.backend.held(), 8, "half of the slots are reserved");
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    assert!(
        host.command(&mut bench, host.admin, keep_alive, &[])
            .status
            .is_success()
    );
    bench.backend.hold(false);
    bench.run();
    let ids: Vec<_> = host
        .responses(queue)
        .iter()
        .map(|response| response.command_id)
        .collect();
    assert_eq!(
        ids,
        commands.iter().map(|command| command.command_id()).collect::<Vec<_>>()
    );
}

#[test]
fn io_waits_for_room_in_the_backend_in_order() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.limit_room(3);
    bench.backend.hold(true);
    for index in 0..10 {
        host.post(queue, &host.read_command(index, 1).0, &[]);
    }
    bench.run();
    assert_eq!(bench.backend.held(), 3);
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 10);
    let offsets: Vec<_> = bench.backend.executed().iter().map(|executed| executed.2).collect();
    assert_eq!(offsets, (0..10).map(|index| index * 4096).collect::<Vec<u64>>());
}

#[test]
fn what_waits_for_anything_is_dropped_with_its_queue_pair() {
    let sizing = PortSizing {
        small_buffer_count: 5,
        request_count: 16,
        ..sizing()
    };
    let mut bench = Bench::with_sizing(sizing);
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.limit_room(1);
    bench.backend.hold(true);
    for index in 0..30 {
        host.post(queue, &host.read_command(index, 1).0, &[]);
    }
    bench.run();
    host.sim.disconnect(queue.connection);
    bench.run();
    assert_eq!(bench.poller.request_count(), 1, "only the one in the backend is left");
    assert_eq!(bench.poller.queue_pair_count(), 2);
    bench.backend.hold(false);
    bench.run();
    assert_eq!(bench.poller.queue_pair_count(), 1);
    assert_eq!(bench.backend.executed().len(), 1);
}

#[test]
fn a_port_that_got_little_memory_serves_with_what_it_has_and_with_more_once_it_comes() {
    let mut bench = Bench::with_sizing(PortSizing {
        small_buffer_count: 1,
        large_buffer_count: 2,
        ..sizing()
    });
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let data = pattern(7, 1);
    assert!(
        host.write(&mut bench, queue, 0, &data).status.is_success(),
        "small I/O in large buffers"
    );
    bench.add_regions(8, 4, 16);
    bench.backend.hold(true);
    for block in 0..10 {
        host.post(queue, &host.read_command(block, 1).0, &[]);
        host.post(queue, &host.read_command(block, 32).0, &[]);
    }
    bench.run();
    assert!(bench.backend.held() > 6, "{} I/Os at once", bench.backend.held());
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 20);
    assert_eq!(host.read(&mut bench, queue, 0, 1), data);
}
