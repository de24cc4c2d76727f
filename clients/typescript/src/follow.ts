// A stream of events for as long as it is wanted: opened, watched, and opened again from its last cursor.

import { GroundswellError } from './error.js';
import { eventOf, type KvEvent } from './event.js';
import type { components } from './openapi.js';
import { Parser } from './sse.js';

/** The first wait before another try, and the longest, in milliseconds; each try doubles it. */
const FIRST_WAIT = 100;
const LONGEST_WAIT = 10_000;
/** How long an answer may take to begin, and a stream to say hello, in milliseconds. */
const HELLO = 30_000;
/** After so many missing heartbeats the connection is dead. */
const MISSED = 3;

/** How a stream is doing. */
export interface Status {
  readonly connected: boolean;
  /** Why it is not. */
  readonly reason: string | null;
  /** When it is tried again, in milliseconds from now. */
  readonly retryInMs: number | null;
}

export interface FollowOptions {
  /** Ends the iteration, quietly. */
  readonly signal?: AbortSignal;
  /** The cursor of the last event that was seen, also of an earlier program. */
  readonly from?: string;
  /** Whether to go on after `ended` with `shut_down`, for a node that will be back. Otherwise that ends the iteration. */
  readonly acrossShutdown?: boolean;
  /** Told when the connection is lost and when it is there again. */
  readonly onStatus?: (status: Status) => void;
}

/** Opens the stream after a cursor. */
export type Open = (from: string | undefined, signal: AbortSignal) => Promise<Response>;

/**
 * Iterates over the events. A connection that is lost is made again, with jittered backoff, from the last event that was
 * taken; a refusal that time will not change is thrown. Who takes events slowly holds back the connection and nothing
 * else: the node then skips what newer values have replaced.
 */
export async function* follow(open: Open, options: FollowOptions): AsyncGenerator<KvEvent, void, void> {
  const { signal, acrossShutdown = false, onStatus } = options;
  let from = options.from;
  let tries = 0;
  while (!signal?.aborted) {
    const connection = new AbortController();
    const stop = () => connection.abort();
    signal?.addEventListener('abort', stop, { once: true });
    let reason = 'the connection was lost';
    let retryAfter: number | null = null;
    try {
      for await (const [json, id] of messages(open, from, connection.signal)) {
        if (json.type === 'hello') onStatus?.({ connected: true, reason: null, retryInMs: null });
        const event = eventOf(json, id || (from ?? ''));
        // In a stream of one topic, the end of the topic is its end.
        if (event?.type === 'ended' && event.reason === 'shut_down' && acrossShutdown) {
          reason = 'the node was shut down';
          break;
        }
        if (id) from = id;
        if (!event) continue;
        // A whole first view, and not a mere hello, is a stream that works.
        if (event.type === 'caught_up') tries = 0;
        yield event;
        if (event.type === 'ended' || signal?.aborted) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof GroundswellError) {
        if (!error.isTemporary) throw error;
        retryAfter = error.retryAfterMs;
      }
      reason = error instanceof Error ? error.message : String(error);
    } finally {
      connection.abort();
      signal?.removeEventListener('abort', stop);
    }
    const backoff = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(tries, 20));
    const wait = Math.max(backoff * (0.5 + Math.random() / 2), retryAfter ?? 0);
    tries += 1;
    onStatus?.({ connected: false, reason, retryInMs: wait });
    await pause(wait, signal);
  }
}

type Json = components['schemas']['Event'];

/** The events of one connection, each with its id. Who aborts the signal closes it. */
async function* messages(open: Open, from: string | undefined, signal: AbortSignal): AsyncGenerator<[Json, string], void, void> {
  const response = await within(HELLO, open(from, signal));
  if (!response.ok) throw await GroundswellError.of(response);
  if (!response.body) throw new Error('the node sent no stream');
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new Parser();
  let patience = HELLO;
  for (;;) {
    // The time in which nobody asks for an event does not count: it is the reader's, not the node's.
    const { done, value } = await within(patience, reader.read());
    if (done) return;
    for (const message of parser.push(decoder.decode(value, { stream: true }))) {
      const json = JSON.parse(message.data) as Json;
      if (json.type === 'hello') patience = json.heartbeat_ms * MISSED;
      yield [json, message.id];
    }
  }
}

/** Waits, but not for ever. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the node has said nothing for ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits, and no longer than anybody wants the stream. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}
