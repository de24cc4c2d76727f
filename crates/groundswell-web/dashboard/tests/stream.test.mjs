// The one stream: resumed from its last id, given up when it is silent, right again by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Stream } from '../stream.js';
import { streamQuery, topicText } from '../topics.js';

const KV = { kind: 'kv', machine: '*', space: '' };

/** A stream with a clock, timers and sources in the hands of the test. */
function world({ probe = async () => null } = {}) {
  const seen = { statuses: [], events: [], back: [], sources: [] };
  const timers = new Set();
  let now = 1000;
  const stream = new Stream('/stream', {
    open: (url) => {
      const listeners = new Map();
      const source = {
        url: new URL(url, 'http://page'), closed: false, listeners,
        addEventListener: (name, call) => listeners.set(name, call),
        close: () => { source.closed = true; },
        tell: (event, id = '') => listeners.get(event.type)({ data: JSON.stringify(event), lastEventId: id }),
        fail: () => listeners.get('error')({}),
      };
      seen.sources.push(source);
      return source;
    },
    now: () => now,
    wall: () => now,
    setTimer: (call, ms) => {
      const timer = { call, at: now + ms };
      timers.add(timer);
      return timer;
    },
    clearTimer: (timer) => timers.delete(timer),
    random: () => 1,
    probe,
    onEvent: (event) => seen.events.push(event),
    onStatus: (status) => seen.statuses.push(status.state),
    onBack: (back) => seen.back.push(back),
  });
  const pass = (ms) => {
    const until = now + ms;
    for (;;) {
      const [next] = [...timers].filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
      if (!next) break;
      timers.delete(next);
      now = next.at;
      next.call();
    }
    now = until;
  };
  return { stream, seen, pass, timers, last: () => seen.sources.at(-1) };
}
const hello = (run = 'one') => ({ type: 'hello', node: 'n', run, started_ms: 1, heartbeat_ms: 10_000 });
const bring = (source, id, run) => {
  source.tell(hello(run));
  source.tell({ type: 'caught_up', topic: 0 });
  source.tell({ type: 'caught_up', topic: 1, cursor: 'c', machine: 'm' }, id);
  source.tell({ type: 'caught_up', topic: 1 });
};

test('it is live when every topic has caught up, not before', () => {
  const { stream, seen, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  last().tell(hello());
  last().tell({ type: 'caught_up', topic: 0 });
  last().tell({ type: 'caught_up', topic: 1, cursor: 'c', machine: 'm' }, 'id');
  assert.equal(seen.statuses.at(-1), 'catching up', 'one machine of all is not all');
  last().tell({ type: 'caught_up', topic: 1 });
  assert.equal(seen.statuses.at(-1), 'live');
  assert.deepEqual(seen.back, [], 'nothing was wrong before');
});

test('broken, it goes on from its last id, and says for how long it was wrong', () => {
  const { stream, seen, pass, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'id 7');
  last().fail();
  assert.equal(stream.status.state, 'gone');
  assert.ok(last().closed);
  pass(250);
  assert.equal(seen.sources.length, 2);
  assert.equal(last().url.searchParams.get('from'), 'id 7');
  bring(last(), 'id 9');
  assert.deepEqual(seen.back, [{ after: 250, restarted: false, rested: false }]);
});

test('a restart of the node is told, once', () => {
  const { stream, seen, pass, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'a', 'one');
  last().fail();
  pass(250);
  bring(last(), 'b', 'two');
  last().fail();
  pass(250);
  bring(last(), 'c', 'two');
  assert.deepEqual(seen.back.map(({ restarted }) => restarted), [true, false]);
});

test('three missing heartbeats are a node that is gone, since it was heard last', () => {
  const { stream, pass, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'a');
  pass(29_999);
  assert.equal(stream.status.state, 'live');
  pass(1);
  assert.equal(stream.status.state, 'gone');
  assert.equal(stream.status.since, 1000);
});

test('silence is counted from the event that was heard last, with one timer for all events', () => {
  const { stream, pass, timers, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'a');
  const { size } = timers;
  pass(20_000);
  last().tell({ type: 'heartbeat', now_ms: 1 });
  assert.equal(timers.size, size);
  pass(29_999);
  assert.equal(stream.status.state, 'live');
  pass(1);
  assert.equal(stream.status.state, 'gone');
  assert.equal(stream.status.since, 21_000);
});

test('a stream that opens and says nothing is given up', () => {
  const { stream, seen, pass } = world();
  stream.follow([KV]);
  pass(10_000);
  assert.equal(stream.status.state, 'gone');
  pass(250);
  assert.equal(seen.sources.length, 2);
});

test('waits double up to five seconds, and begin again after a good stream', () => {
  const { stream, seen, pass, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  const waits = [];
  for (let n = 0; n < 7; n += 1) {
    last().fail();
    waits.push(stream.status.nextTry - stream.needs.now());
    pass(waits.at(-1));
    assert.equal(seen.sources.length, n + 2);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
  bring(last(), 'a');
  last().fail();
  assert.equal(stream.status.nextTry - stream.needs.now(), 250);
});

test('the end of the whole stream has its reason; the end of a topic leaves the others alone', () => {
  const { stream, seen, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  last().tell(hello());
  last().tell({ type: 'ended', reason: 'released', topic: 1 });
  last().tell({ type: 'caught_up', topic: 0 });
  assert.equal(seen.statuses.at(-1), 'live');
  last().tell({ type: 'ended', reason: 'shut_down' });
  assert.deepEqual([stream.status.state, stream.status.reason], ['gone', 'shut_down']);
});

test('without a session it says so and does not knock on', async () => {
  const { stream, seen, pass, last } = world({ probe: async () => ({ status: 401, detail: 'open a new link' }) });
  stream.follow([KV]);
  last().fail();
  await new Promise(setImmediate);
  assert.deepEqual([stream.status.state, stream.status.reason], ['refused', 'open a new link']);
  pass(60_000);
  assert.equal(seen.sources.length, 1);
  stream.retry();
  assert.equal(seen.sources.length, 2);
});

test('other topics go on from where the stream was', () => {
  const { stream, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'id 3');
  const before = last();
  stream.follow([{ kind: 'node' }, { kind: 'kv', machine: 'm', space: 's p' }]);
  assert.ok(before.closed);
  assert.equal(last().url.searchParams.get('from'), 'id 3');
  assert.deepEqual(last().url.searchParams.getAll('topic'), ['node', 'kv?machine=m&space=s%20p']);
  before.tell({ type: 'heartbeat', now_ms: 1 });
  assert.notEqual(stream.status.state, 'live', 'a word of the closed stream counts no more');
});

test('a topic that failed is followed again, one that is over is not', () => {
  const { stream, seen, pass, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'a');
  last().tell({ type: 'ended', topic: 1, reason: 'released' });
  pass(9_000);
  assert.equal(seen.sources.length, 1);
  last().tell({ type: 'ended', topic: 1, reason: 'failed' });
  pass(6_000);
  assert.equal(seen.sources.length, 2);
  assert.equal(last().url.searchParams.get('from'), 'a');
});

test('a page that nobody looks at gives its connection back', () => {
  const { stream, seen, pass, timers, last } = world();
  stream.follow([{ kind: 'node' }, KV]);
  bring(last(), 'a');
  stream.rest();
  assert.ok(last().closed);
  assert.equal(timers.size, 0);
  stream.follow([KV]);
  pass(100_000);
  assert.equal(seen.sources.length, 1);
  stream.wake();
  assert.equal(last().url.searchParams.get('from'), 'a');
  last().tell(hello());
  last().tell({ type: 'caught_up', topic: 0, machines: ['m'] });
  assert.deepEqual(seen.back, [{ after: 100_000, restarted: false, rested: true }]);
});

test('topics say whose entries and which path, whatever is in the names', () => {
  assert.equal(topicText({ kind: 'subscription', peer: 'ab', agent: 'a&b', path: '/x y', lake: null }), 'subscription?peer=ab&agent=a%26b&path=%2Fx%20y&last=20');
  assert.equal(streamQuery([{ kind: 'node' }], null), 'topic=node');
});
