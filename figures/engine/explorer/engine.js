// What the page computes and no formula says in one line. Formulas are put before this by figures/_explorer.py.
"use strict";

// Weights over the iterates 0..steps, as sgdynamics.models.schedules has them.
function emaWeights(beta, steps) {
  return Array.from({ length: steps + 1 }, (_, t) => (t === 0 ? beta ** steps : (1 - beta) * beta ** (steps - t)));
}

function tailWeights(steps, points, stride) {
  const weights = new Array(steps + 1).fill(0);
  for (let i = 0; i < points; i++) weights[steps - i * stride] = 1 / points;
  return weights;
}

// The schedule of gains that equals an average of a run at a constant gain, batch by batch.
function averageGains(weights, gain) {
  const steps = weights.length - 1;
  const centers = new Array(steps);
  let tail = 0;
  for (let t = steps; t > 0; t--) {
    tail = weights[t] + (1 - gain) * tail;
    centers[t - 1] = gain * tail;
  }
  let sum = weights[0] + (1 - gain) * tail;
  return centers.map((weight) => {
    sum += weight;
    return weight / sum;
  });
}

// Expected excess risk of a mini-batch quadratic after every step of a schedule.
function scheduleRisk(model, rates) {
  const square = model.displacement.map((d) => d * d);
  const noise = model.centerVariance.map((c) => c / model.batchSize);
  return rates.map((rate) => {
    let risk = 0;
    for (let i = 0; i < square.length; i++) {
      const gain = rate * model.curvature[i];
      square[i] = (1 - gain) ** 2 * square[i] + gain ** 2 * noise[i];
      risk += 0.5 * model.curvature[i] * square[i];
    }
    return risk;
  });
}

// Gradient descent on the uv network, in the two sides of its cone; all of it times the learning rate.
function uvOrbit(output, kernel, rate, kappa, target, steps) {
  const unit = rate * Math.sqrt(kappa), q = unit * target;
  let plus = rate * kernel + 2 * unit * output, minus = rate * kernel - 2 * unit * output;
  const loss = [], sharpness = [], outputs = [];
  for (let t = 0; t <= steps; t++) {
    const residual = (plus - minus) / 4 - q;
    loss.push(0.5 * (residual / unit) ** 2);
    outputs.push((residual + q) / unit);
    sharpness.push((0.5 * ((plus + minus) / 2 + Math.hypot(2 * (2 * residual + q), Math.sqrt(plus * minus)))) / rate);
    plus *= (1 - residual) ** 2;
    minus *= (1 + residual) ** 2;
  }
  return { loss, sharpness, output: outputs };
}

const OUTCOMES = ["monotone", "loss catapult", "loss and sharpness catapult", "diverged"];

// What became of an orbit, by its place in OUTCOMES.
function uvOutcome(orbit) {
  const last = orbit.loss[orbit.loss.length - 1];
  if (!(last < 1e6 * (orbit.loss[0] + 1))) return 3;
  const rises = (path) => path.some((value) => value > path[0] * (1 + 1e-9));
  if (!rises(orbit.loss)) return 0;
  return rises(orbit.sharpness) ? 2 : 1;
}

// A start of mean kernel and mean alignment: kappa, output, kernel and sharpness of a network of a width.
function uvStart(width, target) {
  const kappa = 1 / width, kernel = 2, alignment = 1 / (4 * (width + 1));
  const output = Math.sqrt(alignment / kappa) * kernel;
  return { kappa, output, kernel, sharpness: uvOrbit(output, kernel, 1, kappa, target, 0).sharpness[0] };
}
