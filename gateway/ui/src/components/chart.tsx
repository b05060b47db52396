import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks';
import { Plot, type PlotSeries } from '../chart/plot';
import type { ChartData } from '../lib/series';
import { localDateTime } from '../lib/time_range';
import type { Unit } from '../lib/units';

interface ChartProps {
  readonly data: ChartData;
  readonly series: readonly PlotSeries[];
  readonly unit: Unit;
  readonly dark: boolean;
  readonly highlighted: number | null;
  readonly onZoom: (from: number, to: number) => void;
  readonly onReset: () => void;
}

const HEIGHT_PIXELS = 360;

export function Chart(props: ChartProps) {
  const { data, series, unit, dark, highlighted } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const latest = useRef(props);
  latest.current = props;

  // Same lines, new samples: the plot stays, so a live chart neither flickers nor loses the cursor.
  const identity = useMemo(() => JSON.stringify([unit, dark, data.series.map((one) => one.key), series.map((one) => one.color)]), [data, series, unit, dark]);
  const builtFrom = useRef<ChartData | null>(null);

  useLayoutEffect(() => {
    if (host.current === null) return undefined;
    const { onZoom: _zoom, onReset: _reset, ...now } = latest.current;
    builtFrom.current = now.data;
    plot.current = new Plot({
      host: host.current,
      height: HEIGHT_PIXELS,
      data: now.data,
      series: now.series,
      unit: now.unit,
      onZoom: (from, to) => latest.current.onZoom(from, to),
      onReset: () => latest.current.onReset(),
    });
    return () => {
      plot.current?.destroy();
      plot.current = null;
    };
  }, [identity]);

  useLayoutEffect(() => {
    if (builtFrom.current !== data) plot.current?.update(data);
    builtFrom.current = data;
  }, [data]);

  useEffect(() => {
    series.forEach((one, index) => plot.current?.setVisible(index, one.visible));
  }, [series]);

  useEffect(() => plot.current?.highlight(highlighted), [highlighted, identity]);

  const visible = series.filter((one) => one.visible).length;
  const from = localDateTime(data.times[0] ?? 0);
  const to = localDateTime(data.times.at(-1) ?? 0);
  return (
    <div
      class="chart"
      ref={host}
      tabIndex={0}
      role="img"
      aria-label={`Chart of ${visible} series from ${from} to ${to}. Left and right arrow keys move the cursor; drag to zoom, double-click to reset.`}
      onKeyDown={(event) => {
        if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
        event.preventDefault();
        plot.current?.moveCursor((event.key === 'ArrowLeft' ? -1 : 1) * (event.shiftKey ? 10 : 1));
      }}
      onBlur={() => plot.current?.hideCursor()}
    />
  );
}
