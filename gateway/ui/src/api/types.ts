// The parts of the Prometheus HTTP API that the page reads.

import type { Labels } from '../lib/labels';

export type SamplePair = readonly [number, string];

export interface HistogramValue {
  readonly count: string;
  readonly sum: string;
}

export type HistogramPair = readonly [number, HistogramValue];

export interface MatrixSeries {
  readonly metric: Labels;
  readonly values?: readonly SamplePair[];
  readonly histograms?: readonly HistogramPair[];
}

export interface VectorSample {
  readonly metric: Labels;
  readonly value?: SamplePair;
  readonly histogram?: HistogramPair;
}

export type QueryData =
  | { readonly resultType: 'matrix'; readonly result: readonly MatrixSeries[] }
  | { readonly resultType: 'vector'; readonly result: readonly VectorSample[] }
  | { readonly resultType: 'scalar'; readonly result: SamplePair }
  | { readonly resultType: 'string'; readonly result: SamplePair };

export interface MetricMetadata {
  readonly type: string;
  readonly help: string;
  readonly unit?: string;
}

export interface Answer<T> {
  readonly data: T;
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
}
