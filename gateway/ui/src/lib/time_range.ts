// What part of time the page looks at, and how finely. All times are Unix seconds.

import { formatDuration } from './duration';

export type TimeRange =
  | { readonly kind: 'relative'; readonly seconds: number }
  | { readonly kind: 'absolute'; readonly from: number; readonly to: number };

export interface Window {
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** The server refuses a range query with more points per series than this. */
export const POINTS_MAX = 11_000;

const HOUR = 3_600;
const DAY = 86_400;

export const RANGE_PRESETS: ReadonlyArray<{ readonly seconds: number; readonly label: string }> = [
  { seconds: 300, label: '5 minutes' },
  { seconds: 900, label: '15 minutes' },
  { seconds: 1_800, label: '30 minutes' },
  { seconds: HOUR, label: '1 hour' },
  { seconds: 3 * HOUR, label: '3 hours' },
  { seconds: 6 * HOUR, label: '6 hours' },
  { seconds: 12 * HOUR, label: '12 hours' },
  { seconds: DAY, label: '24 hours' },
  { seconds: 2 * DAY, label: '2 days' },
  { seconds: 7 * DAY, label: '7 days' },
  { seconds: 14 * DAY, label: '14 days' },
  { seconds: 30 * DAY, label: '30 days' },
];

export const DEFAULT_RANGE: TimeRange = { kind: 'relative', seconds: HOUR };

const NICE_STEPS: readonly number[] = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY,
];

export function bounds(range: TimeRange, now: number): { from: number; to: number } {
  return range.kind === 'absolute' ? { from: range.from, to: range.to } : { from: now - range.seconds, to: now };
}

/** The finest round step that draws no more than one point per two pixels. */
export function automaticStep(rangeSeconds: number, widthPixels: number): number {
  const pointsWanted = Math.min(1_000, Math.max(100, Math.floor(widthPixels / 2)));
  const smallest = rangeSeconds / pointsWanted;
  for (const step of NICE_STEPS) {
    if (step >= smallest) return step;
  }
  return Math.ceil(smallest / DAY) * DAY;
}

/** Why a chosen step cannot be used with a range, or null when it can. */
export function stepProblem(rangeSeconds: number, step: number): string | null {
  const points = Math.floor(rangeSeconds / step) + 1;
  if (points <= POINTS_MAX) return null;
  return `A step of ${step} s gives ${points.toLocaleString('en')} points per series; at most ${POINTS_MAX.toLocaleString('en')} are allowed.`;
}

/**
 * The window to query. When it is asked again and again (`live`), and when it was chosen, its start and end are multiples
 * of the step: a live chart then shows the same samples at every refresh instead of jittering. Asked once, a window that
 * ends now ends now: a sample that was just written is in it, however long the step is.
 */
export function queryWindow(range: TimeRange, now: number, chosenStep: number | null, widthPixels: number, live: boolean): Window {
  const { from, to } = bounds(range, now);
  const step = chosenStep ?? automaticStep(to - from, widthPixels);
  // Counted in whole milliseconds: a step of 0.1 s is no binary fraction.
  const stepMilliseconds = Math.max(1, Math.round(step * 1000));
  const fromMilliseconds = Math.round(from * 1000);
  const toMilliseconds = Math.round(to * 1000);
  const aligned = (milliseconds: number): number => Math.floor(milliseconds / stepMilliseconds) * stepMilliseconds;
  if (range.kind === 'absolute' || live) {
    return { start: aligned(fromMilliseconds) / 1000, end: aligned(toMilliseconds) / 1000, step: stepMilliseconds / 1000 };
  }
  // Whole seconds read better beside the cursor; rounded up, they leave nothing out.
  const unit = stepMilliseconds >= 1000 ? 1000 : 1;
  const end = Math.ceil(toMilliseconds / unit) * unit;
  return { start: (end - aligned(toMilliseconds - fromMilliseconds)) / 1000, end: end / 1000, step: stepMilliseconds / 1000 };
}

/** The range moved by a part of its own length; backwards when `fraction` is negative. */
export function shifted(range: TimeRange, now: number, fraction: number): TimeRange {
  const { from, to } = bounds(range, now);
  const offset = (to - from) * fraction;
  return { kind: 'absolute', from: roundToMilliseconds(from + offset), to: roundToMilliseconds(to + offset) };
}

/** The range made `factor` times as long round its middle. */
export function scaled(range: TimeRange, now: number, factor: number): TimeRange {
  const { from, to } = bounds(range, now);
  const middle = (from + to) / 2;
  const half = Math.max(1, ((to - from) * factor) / 2);
  return { kind: 'absolute', from: roundToMilliseconds(middle - half), to: roundToMilliseconds(middle + half) };
}

export function rangeLabel(range: TimeRange): string {
  if (range.kind === 'relative') {
    const preset = RANGE_PRESETS.find((candidate) => candidate.seconds === range.seconds);
    return preset === undefined ? `Last ${formatDuration(range.seconds)}` : `Last ${preset.label}`;
  }
  const from = localDateTime(range.from);
  const to = localDateTime(range.to);
  const sameDay = from.slice(0, 10) === to.slice(0, 10);
  return `${from} – ${sameDay ? to.slice(11) : to}`;
}

/** `2026-11-21 11:05:09` in the browser's time zone. */
export function localDateTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const pad = (value: number): string => String(value).padStart(2, '0');
  return (
    `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ` +
    `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`
  );
}

/** The value for an `<input type="datetime-local">`, and back. */
export function toInputValue(seconds: number): string {
  return localDateTime(seconds).replace(' ', 'T');
}

export function fromInputValue(text: string): number | null {
  const milliseconds = text === '' ? Number.NaN : new Date(text).getTime();
  return Number.isFinite(milliseconds) ? milliseconds / 1000 : null;
}

function roundToMilliseconds(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
