// Events and latencies by the second, for the plot: a ring of bins, and nothing that grows.

/** How many seconds are kept. */
export const SECONDS = 120;
/** The most latencies of one second that are looked at for its median; of more, every so manieth is. */
const SAMPLES = 256;

/** @typedef {{second: number, count: number, latencies: number[], worst: number|null}} Bin */
/** @typedef {{second: number, count: number, median: number|null, worst: number|null}} Point */

export class Series {
  constructor() {
    /** @type {Bin[]} */
    this.bins = Array.from({ length: SECONDS + 1 }, () => ({ second: -1, count: 0, latencies: [], worst: null }));
  }

  /** @param {number} now In milliseconds. @param {number|null} latency In milliseconds; null where it is not known. */
  add(now, latency) {
    const bin = this.bin(Math.floor(now / 1000));
    bin.count += 1;
    if (latency === null) return;
    if (bin.latencies.length < SAMPLES) bin.latencies.push(latency);
    else bin.latencies[bin.count % SAMPLES] = latency;
    bin.worst = Math.max(bin.worst ?? 0, latency);
  }

  /** @param {number} second */
  bin(second) {
    const bin = this.bins[second % this.bins.length];
    if (bin.second !== second) Object.assign(bin, { second, count: 0, latencies: [], worst: null });
    return bin;
  }

  /** The whole seconds before `now`, oldest first. @param {number} now @param {number} [seconds] @returns {Point[]} */
  points(now, seconds = SECONDS) {
    const end = Math.floor(now / 1000);
    return Array.from({ length: seconds }, (_, at) => {
      const second = end - seconds + at;
      const bin = this.bins[((second % this.bins.length) + this.bins.length) % this.bins.length];
      if (bin.second !== second) return { second, count: 0, median: null, worst: null };
      return { second, count: bin.count, median: median(bin.latencies), worst: bin.worst };
    });
  }
}

/** @param {number[]} values @returns {number|null} */
function median(values) {
  if (values.length === 0) return null;
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}
