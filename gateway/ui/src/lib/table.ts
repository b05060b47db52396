// An instant query's answer as rows of a table.

import type { HistogramValue, QueryData } from '../api/types';
import type { Labels } from './labels';
import { sampleNumber } from './series';

export const TABLE_ROWS_MAX = 1_000;

export interface TableRow {
  readonly labels: Labels;
  readonly value: string;
  /** What the row sorts by. */
  readonly number: number;
}

export interface TableData {
  /** Label names that occur, alphabetical; the metric's name first. */
  readonly columns: readonly string[];
  readonly rows: readonly TableRow[];
  readonly omitted: number;
}

export type SortKey = { readonly by: 'value' } | { readonly by: 'label'; readonly label: string };

export function tableData(data: QueryData): TableData {
  const all = rowsOf(data);
  const rows = all.slice(0, TABLE_ROWS_MAX);
  const names = new Set(rows.flatMap((row) => Object.keys(row.labels)));
  const named = names.delete('__name__');
  return { columns: [...(named ? ['__name__'] : []), ...[...names].sort()], rows, omitted: all.length - rows.length };
}

function rowsOf(data: QueryData): TableRow[] {
  switch (data.resultType) {
    case 'scalar':
      return [{ labels: {}, value: data.result[1], number: sampleNumber(data.result[1]) }];
    case 'string':
      return [{ labels: {}, value: data.result[1], number: 0 }];
    case 'vector':
      return data.result.map(({ metric, value, histogram }) => row(metric, value?.[1], histogram?.[1]));
    case 'matrix':
      return data.result.map(({ metric, values, histograms }) => row(metric, values?.at(-1)?.[1], histograms?.at(-1)?.[1]));
  }
}

function row(labels: Labels, value: string | undefined, histogram: HistogramValue | undefined): TableRow {
  if (value === undefined && histogram !== undefined) {
    return { labels, value: `count ${histogram.count}, sum ${histogram.sum}`, number: sampleNumber(histogram.count) };
  }
  return { labels, value: value ?? '', number: sampleNumber(value ?? 'NaN') };
}

/** Sorted anew; NaN goes last in either direction, text is compared with its numbers as numbers. */
export function sortedRows(rows: readonly TableRow[], key: SortKey, descending: boolean): TableRow[] {
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    if (key.by === 'label') return sign * (a.labels[key.label] ?? '').localeCompare(b.labels[key.label] ?? '', 'en', { numeric: true });
    if (Number.isNaN(a.number) || Number.isNaN(b.number)) return Number(Number.isNaN(a.number)) - Number(Number.isNaN(b.number));
    return a.number === b.number ? 0 : sign * (a.number < b.number ? -1 : 1);
  });
}
