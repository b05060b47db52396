// The chart: uPlot, set up once for a set of series and then fed with new columns.

import uPlot from 'uplot';
import type { ChartData } from '../lib/series';
import { axisLabels, formatValue, tickIncrements, type Unit } from '../lib/units';
import { ChartTooltip, type TooltipLine } from './tooltip';

export interface PlotSeries {
  readonly name: string;
  readonly color: string;
  readonly visible: boolean;
}

export interface PlotOptions {
  readonly host: HTMLElement;
  readonly height: number;
  readonly data: ChartData;
  readonly series: readonly PlotSeries[];
  readonly unit: Unit;
  readonly onZoom: (from: number, to: number) => void;
  readonly onReset: () => void;
}

const FOCUS_PIXELS = 24;
/** Dimming the other lines redraws all of them, and each has its own dot: too slow for the cursor with many lines. */
const FOCUS_SERIES_MAX = 100;
const ZOOM_PIXELS_MIN = 4;

export class Plot {
  private readonly chart: uPlot;
  private readonly tooltip: ChartTooltip;
  private readonly observer: ResizeObserver;
  private data: ChartData;
  private focusedSeries: number | null = null;

  constructor(private readonly options: PlotOptions) {
    this.data = options.data;
    this.tooltip = new ChartTooltip(options.host);
    this.chart = new uPlot(this.uplotOptions(), columns(options.data), options.host);
    this.chart.over.addEventListener('dblclick', () => options.onReset());
    this.chart.over.addEventListener('pointermove', (event) => this.followTouch(event));
    this.observer = new ResizeObserver(() => {
      const width = options.host.clientWidth;
      if (width > 0 && width !== this.chart.width) this.chart.setSize({ width, height: options.height });
    });
    this.observer.observe(options.host);
  }

  /** New samples for the same series. */
  update(data: ChartData): void {
    this.data = data;
    this.chart.setData(columns(data));
  }

  setVisible(index: number, visible: boolean): void {
    if (this.chart.series[index + 1]?.show !== visible) this.chart.setSeries(index + 1, { show: visible });
  }

  highlight(index: number | null): void {
    if (index === null) this.chart.setSeries(null, { focus: false });
    else this.chart.setSeries(index + 1, { focus: true });
  }

  /** Moves the cursor by whole samples, for the keyboard. */
  moveCursor(samples: number): void {
    const last = this.data.times.length - 1;
    const current = this.chart.cursor.idx ?? (samples > 0 ? -1 : last + 1);
    const time = this.data.times[Math.min(last, Math.max(0, current + samples))];
    if (time === undefined) return;
    const left = this.chart.valToPos(time, 'x');
    this.chart.setCursor({ left, top: this.chart.over.clientHeight / 2 });
  }

  hideCursor(): void {
    this.chart.setCursor({ left: -10, top: -10 });
  }

  destroy(): void {
    this.observer.disconnect();
    this.tooltip.destroy();
    this.chart.destroy();
  }

  private uplotOptions(): uPlot.Options {
    const { options } = this;
    const few = options.series.length <= FOCUS_SERIES_MAX;
    const style = getComputedStyle(options.host);
    const text = style.getPropertyValue('--text-muted').trim();
    const grid = style.getPropertyValue('--grid').trim();
    const font = `12px ${style.getPropertyValue('--sans').trim()}`;
    const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 5 } };
    return {
      width: Math.max(200, options.host.clientWidth),
      height: options.height,
      legend: { show: false },
      focus: { alpha: few ? 0.25 : 1 },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        focus: { prox: few ? FOCUS_PIXELS : -1 },
        points: few ? { size: 7, width: 1.5 } : { show: false },
        bind: { dblclick: () => null },
      },
      scales: {
        x: { time: true, range: () => this.timeRange() },
        y: { range: (_chart, min, max) => valueRange(min, max) },
      },
      axes: [
        { ...axis, space: 70, values: TIME_LABELS },
        {
          ...axis,
          space: 36,
          incrs: tickIncrements(options.unit),
          values: (_chart, splits) => axisLabels(splits, options.unit),
          size: (chart, labels) => axisWidth(chart, labels, font),
        },
      ],
      series: [
        {},
        ...options.series.map(
          (series): uPlot.Series => ({
            label: series.name,
            stroke: series.color,
            width: 1.5,
            show: series.visible,
            points: { size: 5, filter: lonePoints },
          }),
        ),
      ],
      hooks: {
        setSelect: [(chart) => this.zoom(chart)],
        setCursor: [(chart) => this.showTooltip(chart)],
        setSeries: [
          (chart, index, change) => {
            // The library's types leave out that a change of focus comes here, too.
            const { focus } = change as { readonly focus?: boolean };
            if (focus === undefined) return;
            this.focusedSeries = focus ? index : null;
            this.showTooltip(chart);
          },
        ],
      },
    };
  }

  private timeRange(): [number, number] {
    const first = this.data.times[0] ?? 0;
    const last = this.data.times.at(-1) ?? 1;
    return first === last ? [first - 30, last + 30] : [first, last];
  }

  private zoom(chart: uPlot): void {
    const { left, width } = chart.select;
    if (width < ZOOM_PIXELS_MIN) return;
    const from = chart.posToVal(left, 'x');
    const to = chart.posToVal(left + width, 'x');
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.options.onZoom(from, to);
  }

  private followTouch(event: PointerEvent): void {
    if (event.pointerType !== 'touch') return;
    const box = this.chart.over.getBoundingClientRect();
    this.chart.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  }

  private showTooltip(chart: uPlot): void {
    const { idx, left, top } = chart.cursor;
    const time = idx === null || idx === undefined ? undefined : this.data.times[idx];
    if (time === undefined || idx === null || idx === undefined || left === undefined || top === undefined || left < 0) {
      this.tooltip.hide();
      return;
    }
    const lines: TooltipLine[] = [];
    this.options.series.forEach((series, index) => {
      const value = this.data.series[index]?.values[idx];
      if (value === null || value === undefined || chart.series[index + 1]?.show !== true) return;
      lines.push({
        name: series.name,
        color: series.color,
        value,
        text: formatValue(value, this.options.unit),
        distance: Math.abs(chart.valToPos(value, 'y') - top),
        focused: this.focusedSeries === index + 1,
      });
    });
    const ratio = window.devicePixelRatio;
    this.tooltip.show({ time, lines, left: left + chart.bbox.left / ratio, top: top + chart.bbox.top / ratio, width: chart.width });
  }
}

// 24-hour clock; the date stands below where a day begins.
const TIME_LABELS: uPlot.Axis.Values = [
  [86_400 * 365, '{YYYY}', null, null, null, null, null, null, 1],
  [86_400 * 28, '{YYYY}-{MM}', null, null, null, null, null, null, 1],
  [86_400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [0.001, '{HH}:{mm}:{ss}.{fff}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
];

function columns(data: ChartData): uPlot.AlignedData {
  return [data.times as number[], ...data.series.map((series) => series.values as Array<number | null>)];
}

function valueRange(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const [low, high] = uPlot.rangeNum(min, max, 0.08, true);
  return low === null || high === null ? [min, max] : [low, high];
}

/** A sample between two gaps has no line segment; a dot keeps it visible. */
function lonePoints(chart: uPlot, seriesIndex: number, show: boolean): number[] | null {
  if (show) return null;
  const values = chart.data[seriesIndex] ?? [];
  const lone: number[] = [];
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] != null && values[index - 1] == null && values[index + 1] == null) lone.push(index);
  }
  return lone;
}

function axisWidth(chart: uPlot, labels: string[] | null, font: string): number {
  if (labels === null) return 50;
  chart.ctx.save();
  chart.ctx.font = font;
  const widest = Math.max(0, ...labels.map((label) => chart.ctx.measureText(label).width));
  chart.ctx.restore();
  return Math.ceil(Math.max(36, widest + 18));
}
