/** A straight line through measurements, and how sure its slope is. */

/** The slope of a line through values that were measured one after the other. */
export interface Slope {
  /** Increase from one value to the next. */
  readonly perStep: number;
  /** Half the width of the slope's 95 % confidence interval. */
  readonly halfWidth: number;
}

/** Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond the last the normal distribution's serves. */
const T_QUANTILES: readonly (readonly [degrees: number, quantile: number])[] = [
  [1, 12.706],
  [2, 4.303],
  [3, 3.182],
  [4, 2.776],
  [5, 2.571],
  [7, 2.365],
  [10, 2.228],
  [15, 2.131],
  [20, 2.086],
  [30, 2.042],
  [60, 2.0],
];
const NORMAL_QUANTILE = 1.96;

/** Fits a line by least squares; `undefined` for fewer than three values. */
export function fitSlope(values: readonly number[]): Slope | undefined {
  const count = values.length;
  if (count < 3) return undefined;
  const meanX = (count - 1) / 2;
  const meanY = values.reduce((sum, value) => sum + value, 0) / count;
  let sumXX = 0;
  let sumXY = 0;
  values.forEach((value, index) => {
    sumXX += (index - meanX) ** 2;
    sumXY += (index - meanX) * (value - meanY);
  });
  const perStep = sumXY / sumXX;
  const residual = values.reduce(
    (sum, value, index) => sum + (value - meanY - perStep * (index - meanX)) ** 2,
    0,
  );
  const degrees = count - 2;
  const standardError = Math.sqrt(residual / degrees / sumXX);
  // The next smaller number of degrees has the larger quantile: the interval is never too narrow.
  const quantile =
    degrees > 60
      ? NORMAL_QUANTILE
      : (T_QUANTILES.findLast(([known]) => known <= degrees)?.[1] ?? NORMAL_QUANTILE);
  return { perStep, halfWidth: quantile * standardError };
}
