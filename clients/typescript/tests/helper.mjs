// A mock node for a test, which ends with it; and waits for conditions.

import { Mock } from '../../../crates/groundswell-web/dashboard/tests/mock.mjs';
import { Groundswell } from '../dist/index.js';

/** @param {(world: {mock: Mock, node: Groundswell, machine: string, url: string}) => Promise<void>} body */
export const onMock = (options, body) => async () => {
  const mock = new Mock({ machines: 1, paths: false, entries: 0, ...options });
  const url = await mock.listen();
  try {
    await body({ mock, node: new Groundswell({ url }), machine: mock.machineId(0), url });
  } finally {
    await mock.kill().catch(() => {});
  }
};

/** Waits until it holds. */
export async function until(holds, what) {
  for (const end = Date.now() + 30_000; !holds();) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5)); // The poll step of a wait.
  }
}

/** Takes the next events until one is as `last` says. */
export async function take(stream, last) {
  const events = [];
  for (;;) {
    const { done, value } = await stream.next();
    if (done) throw new Error(`the stream ended after ${JSON.stringify(events.map(words))}`);
    events.push(value);
    if (last(value)) return events;
  }
}

/** An event in short. */
export function words(event) {
  const key = event.entry?.key ?? event.key;
  return [event.type, key && (key.text ?? Buffer.from(key.bytes).toString('hex')), event.entry?.value.text, event.reason].filter((part) => part !== undefined && part !== null).join(' ');
}

export const isCaughtUp = (event) => event.type === 'caught_up';
