// What a query's values are measured in, guessed from its metric names, and numbers in that unit.

import { parser } from '@prometheus-io/lezer-promql';
import { metricsOf } from './selector';

export type Unit = 'none' | 'bytes' | 'bytes/s' | 'seconds' | 'per second';

const PER_SECOND = new Set(['rate', 'irate', 'deriv']);
const DIMENSIONLESS = new Set(['count', 'group', 'count_values', 'changes', 'resets', 'absent', 'absent_over_time', 'count_over_time', 'present_over_time', 'sgn', 'ln', 'log2', 'log10', 'exp']);

/** The common unit of some queries; `none` when unclear. */
export function unitOf(queries: readonly string[]): Unit {
  const units = new Set(queries.map(unitOfQuery));
  const [unit] = units;
  return units.size === 1 && unit !== undefined ? unit : 'none';
}

function unitOfQuery(query: string): Unit {
  const bases = new Set(metricsOf(query).map(baseUnit));
  const [base] = bases;
  if (bases.size !== 1 || base === undefined) return 'none';
  const shape = shapeOf(query);
  if (shape.dimensionless) return 'none';
  // The quantile of a histogram is measured in what was observed, however its buckets were counted.
  if (shape.quantile) return base;
  if (!shape.perSecond) return base;
  if (base === 'bytes') return 'bytes/s';
  return base === 'seconds' ? 'none' : 'per second';
}

function baseUnit(metric: string): Unit {
  const stem = metric.replace(/_(total|sum|bucket)$/, '');
  if (metric.endsWith('_count')) return 'none';
  if (stem.endsWith('_bytes')) return 'bytes';
  return stem.endsWith('_seconds') && !/(timestamp|time)_seconds$/.test(stem) ? 'seconds' : 'none';
}

function shapeOf(query: string): { perSecond: boolean; quantile: boolean; dimensionless: boolean } {
  const shape = { perSecond: false, quantile: false, dimensionless: false };
  parser.parse(query).iterate({
    enter(ref) {
      if (ref.name === 'FunctionIdentifier' || ref.name === 'AggregateOp') {
        const name = query.slice(ref.from, ref.to).toLowerCase();
        if (PER_SECOND.has(name)) shape.perSecond = true;
        if (name.startsWith('histogram_quantile')) shape.quantile = true;
        if (DIMENSIONLESS.has(name)) shape.dimensionless = true;
      }
      if (['Mul', 'Div', 'Mod', 'Pow', 'Atan2', 'Bool'].includes(ref.name)) shape.dimensionless = true;
    },
  });
  return shape;
}

const SI = ['', 'k', 'M', 'G', 'T', 'P', 'E'] as const;
const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** Significant digits of a single value; an axis takes as many as tell its ticks apart. */
const VALUE_DIGITS = 5;
const AXIS_DIGITS_MIN = 3;
const AXIS_DIGITS_MAX = 15;

/** A number with its unit, shortened for reading. */
export function formatValue(value: number, unit: Unit, digits: number = VALUE_DIGITS): string {
  if (!Number.isFinite(value)) return exactValue(value);
  switch (unit) {
    case 'bytes':
      return scaledBy(value, 1024, IEC, ' ', digits);
    case 'bytes/s':
      return `${scaledBy(value, 1024, IEC, ' ', digits)}/s`;
    case 'seconds':
      return secondsText(value, digits);
    case 'per second':
      return `${plain(value, digits)}/s`;
    case 'none':
      return plain(value, digits);
  }
}

/** Labels of an axis: as short as they can be without two of them reading the same. */
export function axisLabels(ticks: readonly number[], unit: Unit): string[] {
  let labels: string[] = [];
  for (let digits = AXIS_DIGITS_MIN; digits <= AXIS_DIGITS_MAX; digits += 1) {
    labels = ticks.map((tick) => formatValue(tick, unit, digits));
    if (new Set(labels).size === ticks.length && keepsAll(ticks, digits)) break;
  }
  return labels;
}

/** Whether no tick loses anything by so few digits: 0.125 labelled 0.13 would be wrong, if not ambiguous. */
function keepsAll(ticks: readonly number[], digits: number): boolean {
  return ticks.every((tick) => tick === 0 || Math.abs(rounded(tick, digits) - tick) <= Math.abs(tick) * 1e-12);
}

/** A sample's value as PromQL writes it. */
function exactValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}

function plain(value: number, digits: number): string {
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return shortExponent(value, digits);
  if (size < 10_000) return String(rounded(value, digits));
  return scaledBy(value, 1000, SI, '', digits);
}

function scaledBy(value: number, base: number, suffixes: readonly string[], gap: string, digits: number): string {
  let scaled = value;
  let index = 0;
  while (Math.abs(rounded(scaled, digits)) >= base && index < suffixes.length - 1) {
    scaled /= base;
    index += 1;
  }
  const number = Math.abs(scaled) >= base * 10 ? shortExponent(scaled, digits) : String(rounded(scaled, digits));
  return `${number}${gap}${suffixes[index]}`;
}

function secondsText(value: number, digits: number): string {
  const size = Math.abs(value);
  const text = (factor: number, suffix: string): string => `${rounded(value * factor, digits)} ${suffix}`;
  if (size === 0) return '0 s';
  if (size < 1e-6) return text(1e9, 'ns');
  if (size < 1e-3) return text(1e6, 'µs');
  if (size < 1) return text(1e3, 'ms');
  if (size < 120) return text(1, 's');
  if (size < 7_200) return text(1 / 60, 'min');
  if (size < 172_800) return text(1 / 3_600, 'h');
  return text(1 / 86_400, 'd');
}

/** Whole numbers keep all their digits: what is left of a decimal point is never rounded away. */
function rounded(value: number, digits: number): number {
  const whole = Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return Number(value.toPrecision(Math.min(AXIS_DIGITS_MAX, Math.max(digits, Math.min(whole, 4)))));
}

function shortExponent(value: number, digits: number): string {
  return value
    .toExponential(digits - 1)
    .replace(/\.?0+e/, 'e')
    .replace('e+', 'e');
}

/** Distances between axis ticks that read well in the unit. */
export function tickIncrements(unit: Unit): number[] {
  const increments: number[] = [];
  for (let exponent = -12; exponent <= 24; exponent += 1) {
    for (const mantissa of [1, 2, 2.5, 5]) increments.push(Number(`${mantissa}e${exponent}`));
  }
  if (unit === 'bytes' || unit === 'bytes/s') {
    const below = increments.filter((value) => value < 1);
    return [...below, ...Array.from({ length: 70 }, (_, exponent) => 2 ** exponent)];
  }
  if (unit === 'seconds') {
    const below = increments.filter((value) => value < 60 && value !== 25);
    const above = increments.filter((value) => value >= 2).map((value) => value * 86_400);
    return [...below, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, ...above];
  }
  return increments;
}
