// What a node refuses, and why.

import type { components } from './openapi.js';

type Problem = components['schemas']['Problem'];

/** The node refused a request. `kind` does not change between versions; the message is for people. */
export class GroundswellError extends Error {
  override readonly name = 'GroundswellError';

  private constructor(
    /** The HTTP status. */
    readonly status: number,
    /** The last word of the problem's type, such as `unknown-machine`; `other` without a problem document. */
    readonly kind: string,
    message: string,
    /** The whole problem document (RFC 9457), if there was one. */
    readonly problem: Problem | null,
    /** How long the node asks us to wait before we ask again, in milliseconds. */
    readonly retryAfterMs: number | null,
  ) {
    super(message);
  }

  /** Whether the same request may be accepted later. Nothing was done, so that it can be sent again as it is. */
  get isTemporary(): boolean {
    return !this.isOutcomeUnknown && (this.status === 408 || this.status === 429 || this.status >= 500);
  }

  /**
   * Whether it may have been done. Read the state to find out, or send the request again with the same `id`. The same is true
   * of a request that had no answer at all, for which `fetch` throws.
   */
  get isOutcomeUnknown(): boolean {
    return this.kind === 'outcome-unknown';
  }

  /** Reads the refusal out of an answer. */
  static async of(response: Response): Promise<GroundswellError> {
    const problem = await response.json().then((body) => body as Problem, () => null);
    const kind = problem?.type?.split(':').at(-1) ?? 'other';
    const seconds = Number(response.headers.get('retry-after') ?? NaN);
    const message = problem?.detail ?? `the node answered ${response.status} ${response.statusText}`;
    return new GroundswellError(response.status, kind, message, problem, Number.isFinite(seconds) ? seconds * 1000 : null);
  }
}
