"""What a page computes is what PyTorch computes with the same rounded weights."""

import pytest
import torch
from torch.nn import functional as F

from pagkit import attacks, exact, lab, models
from pagkit.attacks import Threat

EPS = {"l2": 0.5, "linf": 0.1}
ASK = """
const answer = Object.fromEntries(Object.entries(input.nets).map(([name, packed]) => {
  const net = labs.compile(packed), out = { logits: [], gradient: [], l2: [], linf: [] };
  input.x.forEach((x, i) => {
    const [logits, gradient] = net.pull(x, (z) => labs.logOddsSlope(z, input.y[i]));
    out.logits.push(logits);
    out.gradient.push(gradient);
    for (const norm of ["l2", "linf"]) {
      const options = { norm, eps: input.eps[norm], bounds: input.bounds, steps: 20, target: input.target?.[i] ?? null };
      out[norm].push(labs.pgd(net, x, input.y[i], options).x);
    }
  });
  return [name, out];
}));
"""


def ask(node, nets, x, y, bounds, weights, eps=EPS, target=None) -> dict:
    packed = {name: lab.pack(net, x.shape[1:], weights=weights) for name, net in nets.items()}
    given = {"nets": packed, "x": x.flatten(1).tolist(), "y": y.tolist(), "eps": eps, "bounds": bounds}
    found = node(ASK, given | ({} if target is None else {"target": target.tolist()}))
    return {name: {key: torch.tensor(value) for key, value in out.items()} for name, out in found.items()}


def hold_equal(model, found, x, y, bounds, eps=EPS, target=None) -> None:
    z = x.clone().requires_grad_()
    logits = model(z)
    (gradient,) = torch.autograd.grad(attacks.log_odds(logits, y).sum(), z)
    assert (found["logits"] - logits).abs().max() < 1e-4 * logits.abs().max()
    gradient = gradient.flatten(1)
    error = (found["gradient"] - gradient).abs().amax(1) / gradient.abs().amax(1)
    assert error.max() < 1e-4
    for norm in ("l2", "linf"):
        x_adv = attacks.pgd(model, x, y, Threat(norm, eps[norm], bounds), steps=20, random_start=False, keep="last", target=target)
        apart = (found[norm] - x_adv.flatten(1)).abs().amax(1) / max(1, x.abs().max())
        assert (apart < 1e-3).float().mean() >= 0.98, (norm, apart.max())  # a sign may flip on rounding
        assert apart.median() < 1e-5


@pytest.mark.parametrize("weights", ["int8", "float16", "float32"])
def test_logits_gradients_and_attacks_agree_on_200_random_inputs(node, nets, weights):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(200, 1, 8, 8, generator=generator), torch.randint(10, (200,), generator=generator)
    some = nets if weights == "int8" else {"mlp gelu": nets["mlp gelu"]}
    for name, found in ask(node, some, x, y, [0, 1], weights).items():
        hold_equal(lab.rounded(nets[name], weights=weights), found, x, y, (0.0, 1.0))


def test_targeted_attacks_agree(node, nets, digits):
    x, y = digits.test.x[:40], digits.test.y[:40]
    target = (y + torch.arange(40) % 3) % 10  # a third aim at their own class and stay
    found = ask(node, {"cnn silu": nets["cnn silu"]}, x, y, [0, 1], "int8", target=target)["cnn silu"]
    hold_equal(lab.rounded(nets["cnn silu"]), found, x, y, (0.0, 1.0), target=target)
    assert torch.equal(found["l2"][::3], x.flatten(1)[::3].float())


def test_the_plane_agrees_without_bounds_and_so_does_a_slice(node, toy, digits, nets, steep):
    generator = torch.Generator().manual_seed(1)
    mlp = steep(models.build("mlp", toy, hidden=[32], normalize=40))
    x, y = 60 * torch.randn(200, 2, generator=generator), torch.randint(2, (200,), generator=generator)
    eps, free = {"l2": 15, "linf": 8}, (-torch.inf, torch.inf)
    hold_equal(mlp, ask(node, {"mlp": mlp}, x, y, [-1e30, 1e30], "float32", eps)["mlp"], x, y, free, eps)
    axes = torch.linalg.qr(torch.randn(64, 2, generator=generator))[0].T
    cut = lab.sliced(nets["cnn silu"], digits.test.x[0], axes)
    assert torch.allclose(cut(torch.zeros(1, 2)), nets["cnn silu"](digits.test.x[:1]), atol=1e-5)
    x, y = x[:60] / 100, y[:60] + 3
    hold_equal(cut, ask(node, {"cut": cut}, x, y, [-1e30, 1e30], "float32")["cut"], x, y, free)


def test_the_drawn_radius_is_the_exact_one(node, toy, steep):
    model = steep(models.build("mlp", toy, hidden=[32], normalize=40, seed=4))
    x = 60 * torch.randn(200, 2, generator=torch.Generator().manual_seed(2))
    pieces = lab.plane({"net": model}, toy.test).spec["nets"]["net"]["pieces"]
    script = """
    const pieces = labs.decode(input.pieces, "float32"), measure = (norm) => input.x.map((x) => labs.exactRadius(pieces, x, norm));
    const answer = { l2: measure("l2"), linf: measure("linf") };
    """
    found = node(script, {"pieces": pieces, "x": x.tolist()})
    radius = exact.radius(model, x)
    assert len(radius) == 200 and radius.isfinite().all()
    assert (torch.tensor([row["radius"] for row in found["l2"]]) - radius).abs().max() < 1e-3
    box = torch.tensor([row["radius"] for row in found["linf"]], dtype=torch.float64)
    assert (box <= radius + 1e-9).all() and (box >= radius / 2**0.5 - 1e-9).all()
    foot = torch.tensor([row["foot"] for row in found["linf"]])
    assert exact.radius(model, foot).max() < 1e-3  # it lies on the boundary
    side = torch.linspace(-1, 1, 201)
    square = torch.cat(
        [torch.stack([a, b], 1) for a, b in ((side, side * 0 + 1), (side, side * 0 - 1), (side * 0 + 1, side), (side * 0 - 1, side))]
    )
    for point, r in zip(x[:20].double(), box[:20], strict=True):
        inside = model((point + 0.999 * r * square).float()).argmax(1)
        assert len(inside.unique()) == 1  # nothing smaller reaches the other class


def test_losses_saturate_where_32_bits_do(node):
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(3)) * torch.logspace(-1, 2, 60)[:, None]
    script = "const answer = Object.fromEntries(Object.entries(labs.LOSSES).map(([name, slope]) => [name, input.map((z) => slope(z, 0))]));"
    found = node(script, logits.tolist())
    label = torch.zeros(60, dtype=torch.int64)
    losses = {
        "log-odds": lambda z: attacks.log_odds(z, label),
        "cross-entropy": lambda z: -F.cross_entropy(z, label, reduction="none"),
        "cross-entropy x1000": lambda z: -F.cross_entropy(1000 * z, label, reduction="none"),
    }
    for name, loss in losses.items():
        z = logits.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(z).sum(), z)
        ours = torch.tensor(found[name])
        assert torch.allclose(ours, slope, rtol=2e-4, atol=1e-7), name
        still = (slope == 0).all(1)
        assert torch.equal((ours == 0).all(1), still) and still.any() == (name == "cross-entropy x1000")


def test_random_starts_are_uniform_in_the_ball_and_repeat(node):
    script = """
    const x = new Float64Array(4).fill(0.5);
    const draw = (norm, seed) => labs.threat(norm, 0.1).randomStart(x, labs.randomFrom(seed)).map((v) => v - 0.5);
    const seeds = Array.from({ length: 2000 }, (_, i) => i);
    const answer = { l2: seeds.map((s) => draw("l2", s)), linf: seeds.map((s) => draw("linf", s)), again: draw("l2", 7) };
    """
    found = node(script, None)
    length = torch.tensor(found["l2"]).norm(dim=1) / 0.1
    assert length.max() <= 1 and abs((length**4).mean() - 0.5) < 0.03
    assert abs(torch.tensor(found["linf"]).abs().mean() - 0.05) < 0.002
    assert found["again"] == found["l2"][7]


def test_the_smallest_eps_of_a_linear_network_is_its_distance(node):
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        linear[1].weight.zero_(), linear[1].bias.copy_(torch.tensor([0.0, -0.3]))
        linear[1].weight[1, :4] = 0.5
    script = """
    const search = (options, most) => { const job = labs.smallestEps(labs.compile(input), new Float64Array(64), 0, most, options);
      for (;;) { const { done, value } = job.next(); if (done) return value; } };
    const answer = [search({ norm: "l2", steps: 20 }, 2), search({ norm: "linf", steps: 20 }, 1), search({ norm: "l2", steps: 20 }, 0.25)];
    """
    found = node(script, lab.pack(linear, (1, 8, 8), weights="float32"))
    assert abs(found[0] - 0.3) < 0.01 and abs(found[1] - 0.15) < 0.01 and found[2] is None


def test_a_bad_call_is_refused(node, nets):
    script = """
    const net = labs.compile(input), x = new Float64Array(64);
    const say = (run) => { try { run(); return null; } catch (error) { return error.message; } };
    const answer = [{ norm: "l1", eps: 1 }, { eps: -1 }, { eps: 1, steps: 0 }, { eps: 1, stepSize: 0 }, { eps: 1, loss: "hinge" }]
      .map((options) => say(() => labs.pgd(net, x, 0, options))).concat([say(() => net.logits([1, 2]))]);
    """
    expected = ("unknown norm l1", "eps is -1", "steps is 0", "stepSize is 0", "unknown loss hinge", "an input has 2 numbers")
    for said, start in zip(node(script, lab.pack(nets["cnn silu"], (1, 8, 8))), expected, strict=True):
        assert said.startswith(start)
