"""Compiled loops over the pixels of fields on a CPU; import this only to score, because numba is slow to load.

Fields are arrays (n, y, x) or ensembles (n, m, y, x) of one floating-point type; results go to the last argument.
Counts are exact. Float sums are added up row by row in float64, and differ by rounding from any other order.
"""

from typing import Any

import numpy as np

from polarcast.hpc.scores.compiled import inlined, kernel


@kernel
def classify(fields: Any, edges: Any, out: Any) -> None:
    """Write one plus the number of edges that each value reaches, and 0 for NaN, to (n, y, x) unsigned integers."""
    n, height, width = fields.shape
    reached = np.empty(width, np.int32)
    for i in range(n):
        for y in range(height):
            values, row = fields[i, y], out[i, y]
            for x in range(width):
                reached[x] = values[x] == values[x]
            # Edge by edge, so that the comparisons are vectorized.
            for edge in edges:
                for x in range(width):
                    reached[x] += values[x] >= edge
            for x in range(width):
                row[x] = reached[x]


@kernel
def count_pairs(forecast: Any, observed: Any, out: Any) -> None:
    """Add the number of pixels of each pair of classes to (n, forecast class, observed class) int64."""
    n, height, width = forecast.shape
    size = out.shape[2]
    # Two tables in turn: an increment need not wait for the one before it.
    tables = np.empty((2, out.shape[1] * size), np.int64)
    for i in range(n):
        tables[:] = 0
        even, odd = tables[0], tables[1]
        for y in range(height):
            f, o = forecast[i, y], observed[i, y]
            for x in range(0, width - 1, 2):
                even[np.intp(f[x]) * size + o[x]] += 1
                odd[np.intp(f[x + 1]) * size + o[x + 1]] += 1
            if width % 2:
                even[np.intp(f[width - 1]) * size + o[width - 1]] += 1
        for a in range(out.shape[1]):
            for b in range(size):
                out[i, a, b] += even[a * size + b] + odd[a * size + b]


@kernel
def pool_max(fields: Any, side: int, out: Any) -> None:
    """Write the maximum of each block of `side`² pixels to (n, block row, block column), which must hold 0."""
    n, height, width = fields.shape
    highest = np.empty(width, fields.dtype)
    for i in range(n):
        for top in range(0, height, side):
            highest.fill(0)
            for y in range(top, min(height, top + side)):
                values = fields[i, y]
                for x in range(width):
                    highest[x] = max(highest[x], values[x])
            row = out[i, top // side]
            for column in range(len(row)):
                for x in range(column * side, min(width, (column + 1) * side)):
                    row[column] = max(row[column], highest[x])


@kernel
def pool_values(fields: Any, side: int, out: Any) -> None:
    """Write mean and maximum of each block of `side`² pixels to (2, n, block row, block column), without NaN."""
    n, height, width = fields.shape
    total, count, highest = np.empty(width), np.empty(width), np.empty(width)
    for i in range(n):
        for top in range(0, height, side):
            for x in range(width):
                total[x] = 0.0
                count[x] = 0.0
                highest[x] = -np.inf
            for y in range(top, min(height, top + side)):
                values = fields[i, y]
                for x in range(width):
                    value = np.float64(values[x])
                    # Comparisons with NaN are false; as selections, not branches, they are vectorized.
                    total[x] += value if value == value else 0.0
                    count[x] += 1.0 if value == value else 0.0
                    highest[x] = value if value > highest[x] else highest[x]
            for column in range(out.shape[3]):
                mean, pixels, most = 0.0, 0.0, -np.inf
                for x in range(column * side, min(width, (column + 1) * side)):
                    mean += total[x]
                    pixels += count[x]
                    most = max(most, highest[x])
                out[0, i, top // side, column] = mean / pixels if pixels else np.nan
                out[1, i, top // side, column] = most if pixels else np.nan


@kernel
def moment_sums(forecast: Any, observed: Any, classes: Any, out: Any) -> None:
    """Add the moments of valid pixels (`continuous.MOMENTS`) by class of the observation to (n, class, 8).

    `classes` (n, y, x) holds 1 + the class, 0 for NaN.
    """
    n, height, width = forecast.shape
    row = np.empty(out.shape[1:])
    for i in range(n):
        for y in range(height):
            row.fill(0)
            for x in range(width):
                f, o, c = np.float64(forecast[i, y, x]), np.float64(observed[i, y, x]), classes[i, y, x]
                if c == 0 or f != f:
                    continue
                sums, error = row[c - 1], f - o
                sums[0] += 1
                sums[1] += o
                sums[2] += f
                sums[3] += abs(error)
                sums[4] += error * error
                sums[5] += o * o
                sums[6] += f * f
                sums[7] += o * f
            for c in range(len(row)):
                for k in range(8):
                    out[i, c, k] += row[c, k]


@kernel
def ring_sums(coefficients: Any, rings: Any, weights: Any, out: Any) -> None:
    """Add the power |z|² of Fourier coefficients, times the weight of their column, to their rings (n, ring).

    `coefficients` is (n, y, x) complex128, `rings` (y, x) holds the ring of each and `weights` is (x,).
    """
    n, height, width = coefficients.shape
    for i in range(n):
        for y in range(height):
            for x in range(width):
                z = coefficients[i, y, x]
                out[i, rings[y, x]] += weights[x] * (z.real * z.real + z.imag * z.imag)


@inlined
def _sort_row(members: Any) -> None:
    """Sort the members (m, x) of each pixel in place, by insertion; NaN stays where it is."""
    for last in range(1, len(members)):
        for k in range(last, 0, -1):
            low, high = members[k - 1], members[k]
            for x in range(len(low)):
                a, b = low[x], high[x]
                low[x], high[x] = (b, a) if b < a else (a, b)


@kernel
def sort_members(ensemble: Any, out: Any) -> None:
    """Write the members of each pixel in ascending order to (n, m, y, x)."""
    n, members, height, width = ensemble.shape
    ordered = np.empty((members, width), ensemble.dtype)
    for i in range(n):
        for y in range(height):
            for m in range(members):
                for x in range(width):
                    ordered[m, x] = ensemble[i, m, y, x]
            _sort_row(ordered)
            for m in range(members):
                for x in range(width):
                    out[i, m, y, x] = ordered[m, x]


@kernel
def crps_terms(ordered: Any, observed: Any, thresholds: Any, out: Any) -> None:
    """Add Σ|x − y| and Σ over pairs of |x − x'|, over members and pixels with values of at least a threshold.

    Members are in ascending order; `out` is (n, threshold, 2).
    """
    n, members, height, width = ordered.shape
    error, difference = np.empty(width), np.empty(width)
    for i in range(n):
        for y in range(height):
            truth = observed[i, y]
            for k in range(len(thresholds)):
                lowest = thresholds[k]
                for x in range(width):
                    error[x] = 0.0
                    difference[x] = 0.0
                for m in range(members):
                    # Σ over pairs of ordered members = Σᵢ (2i − m − 1) xᵢ
                    weight, values = 2.0 * (m + 1) - members - 1, ordered[i, m, y]
                    for x in range(width):
                        value, true = np.float64(values[x]), np.float64(truth[x])
                        value = lowest if value < lowest else value
                        true = lowest if true < lowest else true
                        error[x] += abs(value - true)
                        difference[x] += weight * value
                out[i, k, 0] += error.sum()
                out[i, k, 1] += difference.sum()


@kernel
def quantile_terms(ordered: Any, observed: Any, levels: Any, out: Any) -> None:
    """Add the pinball loss of quantiles, interpolated between the members in ascending order, to (n, level)."""
    n, members, height, width = ordered.shape
    loss = np.empty(width)
    for i in range(n):
        for y in range(height):
            truth = observed[i, y]
            for k in range(len(levels)):
                level = levels[k]
                place = level * (members - 1)
                below = min(int(place), members - 2)
                weight = place - below
                low, high = ordered[i, below, y], ordered[i, below + 1, y]
                for x in range(width):
                    first = np.float64(low[x])
                    error = truth[x] - (first + weight * (high[x] - first))
                    loss[x] = max(level * error, (level - 1) * error)
                out[i, k] += loss.sum()


@kernel
def ssim_terms(forecast: Any, observed: Any, weights: Any, c1: float, c2: float, out: Any) -> None:
    """Add the number and the SSIM of the windows without NaN to (n, 2); `weights` are those along one axis."""
    n, height, width = forecast.shape
    size = len(weights)
    inner = width - size + 1
    columns, means = np.empty((4, width)), np.empty((4, inner))
    for i in range(n):
        for top in range(height - size + 1):
            columns[:] = 0
            for k in range(size):
                weight, fs, os = weights[k], forecast[i, top + k], observed[i, top + k]
                for x in range(width):
                    f, o = np.float64(fs[x]), np.float64(os[x])
                    columns[0, x] += weight * f
                    columns[1, x] += weight * o
                    columns[2, x] += weight * (f * f + o * o)
                    columns[3, x] += weight * (f * o)
            means[:] = 0
            for j in range(4):
                for k in range(size):
                    weight, shifted, mean = weights[k], columns[j, k : k + inner], means[j]
                    for x in range(inner):
                        mean[x] += weight * shifted[x]
            for x in range(inner):
                mf, mo = means[0, x], means[1, x]
                product, squares = mf * mo, mf * mf + mo * mo
                luminance = (2 * product + c1) / (squares + c1)
                value = luminance * (2 * (means[3, x] - product) + c2) / (means[2, x] - squares + c2)
                if value == value:
                    out[i, 0] += 1
                    out[i, 1] += value


@kernel
def spread_terms(ensemble: Any, observed: Any, out: Any) -> None:
    """Add the unbiased variance of the members and the squared error of their mean to (n, 2)."""
    n, members, height, width = ensemble.shape
    mean, variance, error = np.empty(width), np.empty(width), np.empty(width)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                mean[x] = 0.0
                variance[x] = 0.0
            for m in range(members):
                values = ensemble[i, m, y]
                for x in range(width):
                    mean[x] += values[x]
            for x in range(width):
                mean[x] /= members
                error[x] = (mean[x] - observed[i, y, x]) ** 2
            for m in range(members):
                values = ensemble[i, m, y]
                for x in range(width):
                    variance[x] += (values[x] - mean[x]) ** 2
            out[i, 0] += variance.sum() / (members - 1)
            out[i, 1] += error.sum()


@kernel
def count_ranks(ensemble: Any, observed: Any, out: Any) -> None:
    """Add the number of pixels by rank of the observation, ties split evenly between their ranks, to (n, m + 1).

    NaN in the observation is not counted.
    """
    n, members, height, width = ensemble.shape
    below, equal = np.empty(width, np.int32), np.empty(width, np.int32)
    pixels = np.empty((members + 1, members + 1), np.int64)
    for i in range(n):
        pixels[:] = 0
        for y in range(height):
            truth = observed[i, y]
            for x in range(width):
                below[x] = 0
                equal[x] = 0
            for m in range(members):
                values = ensemble[i, m, y]
                for x in range(width):
                    below[x] += values[x] < truth[x]
                    equal[x] += values[x] == truth[x]
            for x in range(width):
                pixels[below[x], equal[x]] += truth[x] == truth[x]
        for first in range(members + 1):
            for ties in range(members + 1 - first):
                for rank in range(first, first + ties + 1):
                    out[i, rank] += pixels[first, ties] / (ties + 1)


@kernel
def count_probabilities(ensemble: Any, observed: Any, thresholds: Any, out: Any) -> None:
    """Add the number of pixels by members with an event and observed event to (n, threshold, m + 1, 2) int64.

    NaN in the observation is not counted.
    """
    n, members, height, width = ensemble.shape
    events = np.empty(width, np.int32)
    for i in range(n):
        for y in range(height):
            truth = observed[i, y]
            for k in range(len(thresholds)):
                threshold, counts = thresholds[k], out[i, k]
                for x in range(width):
                    events[x] = 0
                for m in range(members):
                    values = ensemble[i, m, y]
                    for x in range(width):
                        events[x] += values[x] >= threshold
                for x in range(width):
                    counts[events[x], np.intp(truth[x] >= threshold)] += truth[x] == truth[x]


@inlined
def _root(parents: Any, label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@inlined
def _label(field: Any, threshold: float, labels: Any, parents: Any) -> int:
    """Write provisional labels of the 8-connected objects to `labels`, 0 outside; return one more than their number.

    Labels of one object have the same root in `parents`, its lowest label.
    """
    height, width = field.shape
    following = 1
    for y in range(height):
        for x in range(width):
            labels[y, x] = 0
            if not field[y, x] >= threshold:
                continue
            found = 0
            for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
                if y + dy < 0 or x + dx < 0 or x + dx >= width or labels[y + dy, x + dx] == 0:
                    continue
                root = _root(parents, labels[y + dy, x + dx])
                if found:
                    parents[max(found, root)] = min(found, root)
                found = min(found, root) if found else root
            if not found:
                found = following
                parents[found] = found
                following += 1
            labels[y, x] = found
    return following


@kernel
def object_terms(fields: Any, thresholds: Any, centers: Any, out: Any) -> None:
    """Add Σ mass, Σ mass²/peak and Σ mass × distance from the center over the objects of each field to (n, 3).

    An object is an 8-connected region at or above the threshold of its field (n,). `centers` (2, n) holds y and x.
    """
    n, height, width = fields.shape
    labels, parents = np.empty((height, width), np.int32), np.empty(height * width + 1, np.int32)
    for i in range(n):
        count = _label(fields[i], thresholds[i], labels, parents)
        sums = np.zeros((count, 4))
        for y in range(height):
            for x in range(width):
                if labels[y, x]:
                    total, rain = sums[_root(parents, labels[y, x])], fields[i, y, x]
                    total[0] += rain
                    total[1] += rain * y
                    total[2] += rain * x
                    total[3] = max(total[3], rain)
        for label in range(1, count):
            mass = sums[label, 0]
            if parents[label] == label:
                away = np.hypot(sums[label, 1] / mass - centers[0, i], sums[label, 2] / mass - centers[1, i])
                out[i, 0] += mass
                out[i, 1] += mass * mass / sums[label, 3]
                out[i, 2] += mass * away
