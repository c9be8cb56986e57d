/**
 * Line charts over time. Colours are variables of the style sheet. They are resolved here, since a canvas
 * cannot read them.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import uPlot from "uplot"
import "uplot/dist/uPlot.min.css"
import { isUtc } from "./Time.tsx"

export interface Line {
  readonly title: string
  /** The name of a CSS variable: `--accent`. */
  readonly color: string
  readonly isDashed?: boolean
  readonly values: ReadonlyArray<number>
}

const HEIGHT_PX = 190

/**
 * A chart. `times` are epoch milliseconds, one for each value of each line. `format` formats values, and
 * `label` describes the chart.
 */
export const Chart = ({
  format,
  label,
  lines,
  times
}: {
  readonly label: string
  readonly times: ReadonlyArray<number>
  readonly lines: ReadonlyArray<Line>
  readonly format: (value: number) => string
}) => {
  const ref = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const scheme = useScheme()
  const data: uPlot.AlignedData = [times.map((ms) => ms / 1000), ...lines.map(({ values }) => [...values])]
  const latest = useRef(data)
  latest.current = data
  const utc = isUtc.value

  useEffect(() => {
    const element = ref.current
    if (element === null) return
    const color = (name: string): string => {
      const probe = document.createElement("span")
      probe.style.color = `var(${name})`
      element.append(probe)
      const found = getComputedStyle(probe).color
      probe.remove()
      return found
    }
    const axis: uPlot.Axis = {
      stroke: color("--quiet"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { stroke: color("--line"), width: 1 },
      font: "11px system-ui, sans-serif"
    }
    const chart = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT_PX,
        tzDate: (seconds) => (utc ? uPlot.tzDate(new Date(seconds * 1000), "UTC") : new Date(seconds * 1000)),
        fmtDate: (template) =>
          uPlot.fmtDate(
            template
              .replace("{M}/{D}/{YY}", "{YYYY}-{MM}-{DD}")
              .replace("{M}/{D}", "{MM}-{DD}")
              .replaceAll("{h}", "{HH}")
              .replaceAll("{aa}", "")
          ),
        cursor: { drag: { x: false, y: false } },
        scales: { y: { range: (_plot, _min, max) => [0, Math.max(1, max * 1.1)] } },
        series: [
          { value: (_plot, seconds) => (seconds === null ? "" : clock(seconds * 1000, utc)), label: "Time" },
          ...lines.map(({ color: name, isDashed, title }) => ({
            label: title,
            stroke: color(name),
            width: 1.75,
            ...(isDashed === true ? { dash: [4, 4] } : {}),
            points: { show: false },
            value: (_plot: uPlot, value: number | null) => (value === null ? "–" : format(value))
          }))
        ],
        axes: [axis, { ...axis, size: 56, values: (_plot, values) => values.map(format) }]
      },
      latest.current,
      element
    )
    plot.current = chart
    const observer = new ResizeObserver(() =>
      chart.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT_PX })
    )
    observer.observe(element)
    return () => {
      observer.disconnect()
      chart.destroy()
      plot.current = undefined
    }
    // the chart is drawn anew when the titles change; lines with the same titles count as the same lines
  }, [scheme, utc, lines.map(({ title }) => title).join(" ")])

  useEffect(() => {
    plot.current?.setData(latest.current)
  })
  return (
    <figure class="chart">
      <figcaption>{label}</figcaption>
      <div
        ref={ref}
        role="img"
        aria-label={`${label}. ${lines.map(({ title, values }) => `${title}: ${format(values.at(-1) ?? 0)} now, ${format(Math.max(0, ...values))} at most`).join("; ")}`}
      />
    </figure>
  )
}

const clock = (ms: number, utc: boolean): string => {
  const date = new Date(ms)
  const twoDigits = (value: number): string => String(value).padStart(2, "0")
  return utc
    ? `${twoDigits(date.getUTCHours())}:${twoDigits(date.getUTCMinutes())} UTC`
    : `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`
}

const useScheme = (): string => {
  const query = matchMedia("(prefers-color-scheme: dark)")
  const [scheme, setScheme] = useState(query.matches ? "dark" : "light")
  useEffect(() => {
    const update = (): void => setScheme(query.matches ? "dark" : "light")
    query.addEventListener("change", update)
    return () => query.removeEventListener("change", update)
  }, [])
  return scheme
}
