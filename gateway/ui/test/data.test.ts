import { describe, expect, it } from 'vitest';
import type { QueryData } from '../src/api/types';
import { exampleQueries } from '../src/lib/examples';
import { seriesColor } from '../src/lib/colors';
import { searchNames } from '../src/lib/search';
import { chartData, DRAWN_SERIES_MAX, seriesKey } from '../src/lib/series';
import { sortedRows, TABLE_ROWS_MAX, tableData } from '../src/lib/table';
import { axisLabels, formatValue, tickIncrements, unitOf } from '../src/lib/units';

describe('chartData', () => {
  const window = { start: 100, end: 130, step: 10 };

  it('puts samples on the grid and leaves gaps', () => {
    const data = chartData([{ row: 1, matrix: [{ metric: { a: 'b' }, values: [[100, '1'], [120, '3']] }] }], window);
    expect(data.times).toEqual([100, 110, 120, 130]);
    expect(data.series[0]?.values).toEqual([1, null, 3, null]);
  });

  it('draws a gap for values without a place on an axis', () => {
    const data = chartData([{ row: 1, matrix: [{ metric: {}, values: [[100, 'NaN'], [110, '+Inf'], [120, '-Inf'], [130, '-0.5']] }] }], window);
    expect(data.series[0]?.values).toEqual([null, null, null, -0.5]);
  });

  it.each(['NaN', '+Inf', '-Inf'])('keeps %s as the newest value', (text) => {
    const data = chartData([{ row: 1, matrix: [{ metric: {}, values: [[100, '1'], [110, text]] }] }], window);
    expect(formatValue(data.series[0]?.last ?? 0, 'none')).toBe(text);
  });

  it('ignores samples outside of the window', () => {
    const data = chartData([{ row: 1, matrix: [{ metric: {}, values: [[90, '1'], [140, '2'], [130, '3']] }] }], window);
    expect(data.series[0]?.values).toEqual([null, null, null, 3]);
  });

  it('counts what it does not draw', () => {
    const matrix = Array.from({ length: DRAWN_SERIES_MAX + 7 }, (_, index) => ({ metric: { i: String(index) }, values: [[100, '1']] as const }));
    const data = chartData([{ row: 1, matrix: [...matrix, { metric: {}, histograms: [[100, { count: '1', sum: '2' }]] }] }], window);
    expect(data.series).toHaveLength(DRAWN_SERIES_MAX);
    expect(data.omitted).toBe(7);
    expect(data.histogramsOnly).toBe(1);
  });

  it('keeps a series apart from its twin in another row, whatever the order of labels', () => {
    expect(seriesKey(1, { a: '1', b: '2' })).toBe(seriesKey(1, { b: '2', a: '1' }));
    expect(seriesKey(1, { a: '1' })).not.toBe(seriesKey(2, { a: '1' }));
  });
});

describe('tableData', () => {
  const vector: QueryData = {
    resultType: 'vector',
    result: [
      { metric: { __name__: 'm', z: '10' }, value: [1, '2'] },
      { metric: { __name__: 'm', z: '9', a: 'x' }, value: [1, 'NaN'] },
      { metric: { __name__: 'm' }, value: [1, '+Inf'] },
      { metric: { h: 'y' }, histogram: [1, { count: '5', sum: '7.5' }] },
    ],
  };

  it('has a column for every label, the metric first', () => {
    const table = tableData(vector);
    expect(table.columns).toEqual(['__name__', 'a', 'h', 'z']);
    expect(table.rows.map((row) => row.value)).toEqual(['2', 'NaN', '+Inf', 'count 5, sum 7.5']);
  });

  it('sorts values as numbers with NaN last in both directions', () => {
    const { rows } = tableData(vector);
    expect(sortedRows(rows, { by: 'value' }, true).map((row) => row.value)).toEqual(['+Inf', 'count 5, sum 7.5', '2', 'NaN']);
    expect(sortedRows(rows, { by: 'value' }, false).map((row) => row.value)).toEqual(['2', 'count 5, sum 7.5', '+Inf', 'NaN']);
  });

  it('sorts numbers in labels as numbers', () => {
    const { rows } = tableData(vector);
    expect(sortedRows(rows, { by: 'label', label: 'z' }, false).map((row) => row.labels['z'])).toEqual([undefined, undefined, '9', '10']);
  });

  it('shows scalars, strings and the last sample of a range', () => {
    expect(tableData({ resultType: 'scalar', result: [1, '42'] }).rows[0]?.value).toBe('42');
    expect(tableData({ resultType: 'string', result: [1, 'text'] }).rows[0]?.value).toBe('text');
    expect(tableData({ resultType: 'matrix', result: [{ metric: {}, values: [[1, '1'], [2, '5']] }] }).rows[0]?.value).toBe('5');
  });

  it('counts the rows that it leaves out', () => {
    const result = Array.from({ length: TABLE_ROWS_MAX + 3 }, (_, index) => ({ metric: { i: String(index) }, value: [1, '1'] as const }));
    expect(tableData({ resultType: 'vector', result }).omitted).toBe(3);
  });
});

describe('units', () => {
  it.each([
    ['node_memory_MemFree_bytes', 'bytes'],
    ['sum(rate(node_network_receive_bytes_total[5m]))', 'bytes/s'],
    ['rate(http_requests_total[5m])', 'per second'],
    ['histogram_quantile(0.9, sum by (le) (rate(x_seconds_bucket[5m])))', 'seconds'],
    ['rate(node_cpu_seconds_total[5m])', 'none'],
    ['a_bytes / b_bytes', 'none'],
    ['count(a_bytes)', 'none'],
    ['process_start_time_seconds', 'none'],
    ['42', 'none'],
    ['up', 'none'],
  ])('measures %s in %s', (query, unit) => expect(unitOf([query])).toBe(unit));

  it('has no common unit for different ones', () => {
    expect(unitOf(['a_bytes', 'b_seconds'])).toBe('none');
    expect(unitOf(['a_bytes', 'b_bytes'])).toBe('bytes');
  });

  it.each([
    [0, 'none', '0'],
    [1_234, 'none', '1234'],
    [12_345, 'none', '12.345k'],
    [999_999.6, 'none', '1M'],
    [123_456_789, 'none', '123.46M'],
    [5e6, 'none', '5M'],
    [0.00001234, 'none', '1.234e-5'],
    [-1_536, 'bytes', '-1.5 KiB'],
    [1_048_576, 'bytes/s', '1 MiB/s'],
    [0.0025, 'seconds', '2.5 ms'],
    [90, 'seconds', '90 s'],
    [7_200, 'seconds', '2 h'],
    [3, 'per second', '3/s'],
    [Number.NaN, 'none', 'NaN'],
    [Number.POSITIVE_INFINITY, 'bytes', '+Inf'],
  ] as const)('writes %d %s as %s', (value, unit, text) => expect(formatValue(value, unit)).toBe(text));

  it('labels ticks so that no two read the same', () => {
    expect(axisLabels([0, 0.5, 1, 1.5], 'none')).toEqual(['0', '0.5', '1', '1.5']);
    expect(axisLabels([1_795_261_890, 1_795_261_900], 'none')).toEqual(['1.79526189G', '1.7952619G']);
    expect(axisLabels([1_024, 1_536, 2_048], 'bytes')).toEqual(['1 KiB', '1.5 KiB', '2 KiB']);
    expect(axisLabels([0.001, 0.0015], 'seconds')).toEqual(['1 ms', '1.5 ms']);
    expect(axisLabels([0, 0.125, 0.25], 'none')).toEqual(['0', '0.125', '0.25']);
    expect(axisLabels([0.00001, 0.00002], 'none')).toEqual(['1e-5', '2e-5']);
  });

  it('has growing distances between ticks', () => {
    for (const unit of ['none', 'bytes', 'seconds'] as const) {
      const increments = tickIncrements(unit);
      expect(increments).toEqual([...new Set(increments)].sort((a, b) => a - b));
    }
    expect(tickIncrements('bytes')).toContain(1_048_576);
  });
});

describe('examples', () => {
  it('uses only metrics that exist', () => {
    expect(exampleQueries([])).toEqual([]);
    const names = ['node_cpu_seconds_total', 'up', 'strange.name'];
    const queries = exampleQueries(names).map((example) => example.query);
    expect(queries).toContain('sum by (mode) (rate(node_cpu_seconds_total[1m]))');
    expect(queries).toContain('up');
    expect(queries).toContain('{"strange.name"}');
  });

  it('knows what to do with counters and histograms of any name', () => {
    const [first] = exampleQueries(['apples_total']);
    expect(first?.query).toBe('rate(apples_total[5m])');
    const [second] = exampleQueries(['pear_size_bucket']);
    expect(second?.query).toContain('histogram_quantile(0.5, sum by (le) (rate(pear_size_bucket[5m])))');
  });
});

describe('searchNames', () => {
  it('wants every word and puts leading matches first', () => {
    expect(searchNames(['a_cpu_total', 'cpu_total', 'cpu_x'], 'CPU tot')).toEqual(['cpu_total', 'a_cpu_total']);
    expect(searchNames(['b', 'a'], ' ')).toEqual(['b', 'a']);
  });
});

describe('seriesColor', () => {
  it('gives the first lines different colours in both themes', () => {
    for (const dark of [true, false]) {
      const colors = Array.from({ length: 60 }, (_, index) => seriesColor(index, dark));
      expect(new Set(colors).size).toBe(60);
    }
  });
});
