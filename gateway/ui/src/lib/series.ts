// Query results as columns that the chart draws: one shared time axis, one array per series.

import type { MatrixSeries } from '../api/types';
import type { Labels } from './labels';
import type { Window } from './time_range';

/** More lines than this are unreadable and slow; the rest is counted and reported. */
export const DRAWN_SERIES_MAX = 500;

export interface DrawnSeries {
  /** Stable across refreshes: the row and the label set. */
  readonly key: string;
  readonly row: number;
  readonly labels: Labels;
  readonly values: ReadonlyArray<number | null>;
  /** The newest value, also one without a place on an axis. */
  readonly last: number;
}

export interface ChartData {
  readonly times: readonly number[];
  readonly series: readonly DrawnSeries[];
  readonly omitted: number;
  /** Series that hold native histograms only: they have no single line to draw. */
  readonly histogramsOnly: number;
}

export function chartData(results: ReadonlyArray<{ row: number; matrix: readonly MatrixSeries[] }>, window: Window): ChartData {
  const points = Math.round((window.end - window.start) / window.step) + 1;
  const times = Array.from({ length: points }, (_, index) => window.start + index * window.step);
  const series: DrawnSeries[] = [];
  let omitted = 0;
  let histogramsOnly = 0;
  for (const { row, matrix } of results) {
    for (const { metric, values, histograms } of matrix) {
      if (values === undefined || values.length === 0) {
        if (histograms !== undefined && histograms.length > 0) histogramsOnly += 1;
        continue;
      }
      if (series.length >= DRAWN_SERIES_MAX) {
        omitted += 1;
        continue;
      }
      const last = sampleNumber(values.at(-1)?.[1] ?? 'NaN');
      series.push({ key: seriesKey(row, metric), row, labels: metric, values: onGrid(values, window, points), last });
    }
  }
  return { times, series, omitted, histogramsOnly };
}

export function seriesKey(row: number, labels: Labels): string {
  return JSON.stringify([row, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** Absent steps and values without a place on an axis (NaN, ±Inf) become gaps. */
function onGrid(values: ReadonlyArray<readonly [number, string]>, window: Window, points: number): Array<number | null> {
  const column = new Array<number | null>(points).fill(null);
  for (const [time, text] of values) {
    const index = Math.round((time - window.start) / window.step);
    const value = Number(text);
    if (index >= 0 && index < points && Number.isFinite(value)) column[index] = value;
  }
  return column;
}

/** A sample's text as a number: Prometheus writes `+Inf`, JavaScript reads `Infinity`. */
export function sampleNumber(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return Number(text);
}
