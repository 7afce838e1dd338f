import { describe, expect, it } from 'vitest';
import {
  countOfKernelTarget,
  countOfProcess,
  difference,
  isAtBaseline,
  managementQueuePairLives,
  parseListing,
} from './resources.ts';

const GSI = '{"ifname":"rxe0","lqpn":1,"type":"GSI","state":"RTS","comm":"ib_core"}';
const listing = (gsi = GSI) =>
  parseListing(`31
120400
81200
607 629
[{"lqpn":18,"type":"RC","state":"RTS","pid":629,"comm":"weir-control"}
,{"lqpn":21,"type":"RC","comm":"rdma_cm"}
,${gsi}
]
[{"mrn":0,"pid":629,"comm":"weir-control"},{"mrn":1,"pid":5000,"comm":"weir-control"}]
[{"cqn":0,"poll-ctx":"WORKQUEUE","comm":"ib_core"},{"cqn":1,"pid":629},{"cqn":2,"poll-ctx":"SOFTIRQ","comm":"ib_core"}]
[{"pdn":1,"pid":629},{"pdn":3,"comm":"nvmet_rdma"}]
[ ]
`);

describe('parseListing', () => {
  it('does not take a listing that was cut short for one of nothing', () => {
    expect(() => parseListing('31\n120400\n81200\n607\n[ ]\n[ ]\n')).toThrow('2 lists');
  });

  it('sees that there is no process', () => {
    const { fds, rssKiB, threads } = parseListing('\n\n\n\n[ ]\n[ ]\n[ ]\n[ ]\n[ ]\n');
    expect([fds, rssKiB, threads.size]).toEqual([undefined, undefined, 0]);
  });
});

describe('countOfProcess', () => {
  it('counts what any thread of the process made, and nothing of others', () => {
    expect(countOfProcess(listing())).toEqual({
      fds: 31,
      rssKiB: 120400,
      anonymousKiB: 81200,
      qps: 1,
      mrs: 1,
      cqs: 1,
      pds: 1,
      cmIds: 0,
    });
  });
});

describe('countOfKernelTarget', () => {
  it("counts the kernel target's objects, and none of the stack's own", () => {
    expect(countOfKernelTarget(listing())).toEqual({
      fds: null,
      rssKiB: null,
      anonymousKiB: null,
      qps: 1,
      mrs: 0,
      cqs: 1,
      pds: 1,
      cmIds: 0,
    });
  });
});

describe('isAtBaseline', () => {
  const counts = countOfProcess(listing());

  it('does not mind memory', () => {
    expect(isAtBaseline(difference({ ...counts, rssKiB: 999999, anonymousKiB: 999999 }, counts))).toBe(true);
  });

  it('minds every object', () => {
    for (const kind of ['fds', 'qps', 'mrs', 'cqs', 'pds', 'cmIds'] as const) {
      expect(isAtBaseline(difference({ ...counts, [kind]: 32 }, counts))).toBe(false);
    }
  });
});

describe('managementQueuePairLives', () => {
  it('sees a queue pair in the error state', () => {
    expect(managementQueuePairLives(listing())).toBe(true);
    expect(managementQueuePairLives(listing(GSI.replace('RTS', 'ERR')))).toBe(false);
  });
});
