"""What ranks would exchange for mt0-xxl: formulas of the plan, and assumed bandwidths. Nothing is measured.

python -m benchmarks.scale_on_paper
"""

from __future__ import annotations

D_MODEL, D_FF, LAYERS, VOCABULARY, R = 4096, 10_240, 24, 250_112, 16
GIB = 2**30
# Bytes a second and GPU in one direction: NVLink of an H100, and one 400 Gbit/s adapter.
LINKS = {"8 × H100, one node": (8, 450e9), "64 nodes × 8": (512, 50e9)}


def main() -> None:
    attention, feed_forward = 4 * D_MODEL**2, 3 * D_MODEL * D_FF
    layers = 2 * LAYERS * (3 * attention + 2 * feed_forward)  # bytes in bfloat16
    tables = 2 * 2 * VOCABULARY * D_MODEL  # embeddings, and a head of its own
    per_attention, per_feed_forward = 4 * R * 2 * D_MODEL, 3 * R * (D_MODEL + D_FF)
    gradients = 4 * LAYERS * (3 * per_attention + 2 * per_feed_forward)  # float32
    print("| ranks | gradients sent a step | time | base a rank, divided | gathered a pass | time |")
    print("|---|---|---|---|---|---|")
    for name, (size, speed) in LINKS.items():
        sent = 2 * (size - 1) / size * gradients  # a ring
        # Layers there and back, embeddings by encoder and decoder, the head once.
        gathered = (2 * layers + 1.5 * tables) * (size - 1) / size
        print(
            f"| {name} | {sent / 2**20:.0f} MiB | {sent / speed * 1e3:.1f} ms "
            f"| {(layers + tables) / size / GIB:.2f} GiB | {gathered / GIB:.1f} GiB "
            f"| {gathered / speed * 1e3:.0f} ms |"
        )
    layer = 2 * (2 * attention + feed_forward)
    print(f"base {(layers + tables) / GIB:.1f} GiB, of a decoder layer {layer / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
