"""What unlabelled images look like to a backbone: crowds, nearest neighbours, a map; a page and a
table of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.recipes.adapt.outcome import embed
from graft.recipes.codecs.images import Images
from graft.recipes.report.drawing import figures
from graft.recipes.report.drawing.templates import page_templates
from graft.zoo.errors import ConfigError
from graft.zoo.files.writing import write_csv, write_text
from graft.zoo.heads.neighbours import nearest_others

__all__ = ["Seen", "check", "look", "write"]

MOST_CLUSTERS = 20
SAMPLE = 2000
"""Images that say how many clusters there are."""
MAPPED = 1500
"""Images on the map."""
NEIGHBOURS = 6
QUERIES = 8
SHOWN = 8
"""Images of a cluster, those nearest to its middle first."""
SIDE = 96
"""Of an image on the page, in pixels."""


@dataclass(frozen=True)
class Seen:
    """What was found in the images.

    Attributes:
        vectors: of length 1, `(n, width)`.
        clusters: the number of each image's cluster, `(n,)`, large clusters first.
        typical: for each cluster its images, the one nearest to its middle first.
        neighbours: for each image the nearest others by cosine, `(n, NEIGHBOURS)`.
        silhouette: of the clustering, -1 to 1 (Rousseeuw 1987).
    """

    vectors: np.ndarray
    clusters: np.ndarray
    typical: tuple[np.ndarray, ...]
    neighbours: np.ndarray
    silhouette: float


def check(clusters: int | None, images: int) -> None:
    """Refuse a number of `clusters` that cannot be found among so many `images`.

    Raises:
        ConfigError: as many as the images that are looked at, or more; or less than two.
    """
    most = min(images, SAMPLE)
    if clusters is not None and not 2 <= clusters < most:
        which = f"{images} images" if most == images else f"{most} images by which they are found"
        raise ConfigError(f"--clusters is from 2 to one less than the {which}, not {clusters}")


def look(features: np.ndarray, clusters: int | None, seed: int = 0) -> Seen:
    """Cluster (k-means) the features `(n, width)`, scaled to length 1, and find each one's nearest
    neighbours.

    `clusters` None: the number from 2 to 20 with the best silhouette.

    Raises:
        ConfigError: as `check` does.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import normalize

    vectors = np.asarray(normalize(features), np.float32)
    check(clusters, len(vectors))
    sample = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLE]

    def judged(count: int) -> tuple[float, int, KMeans]:
        model = KMeans(count, n_init=4, random_state=seed).fit(vectors[sample])
        apart = len(np.unique(model.labels_)) > 1
        return silhouette_score(vectors[sample], model.labels_) if apart else 0.0, count, model

    # To a network that has collapsed, all images are the same one, and there is no second
    # cluster.
    most = min(len(sample) - 1, len(np.unique(vectors[sample], axis=0)))
    counts = (
        range(min(2, most), min(MOST_CLUSTERS, most) + 1)
        if clusters is None
        else (min(clusters, most),)
    )
    silhouette, count, model = max((judged(n) for n in counts), key=lambda found: found[0])
    found = model.predict(vectors)
    sizes = np.bincount(found, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    distances = model.transform(vectors)
    members = ((c, np.flatnonzero(found == c)) for c in order if sizes[c])
    typical = tuple(rows[np.argsort(distances[rows, c])] for c, rows in members)
    return Seen(
        vectors,
        np.argsort(order)[found],
        typical,
        nearest_others(vectors, NEIGHBOURS),
        float(silhouette),
    )


def write(folder: Path, seen: Seen, images: Images, facts: Mapping, seed: int = 0) -> None:
    """report.html for a person and clusters.csv (a row an image: cluster, place on the map,
    neighbours) for a program.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(seen.vectors))[:MAPPED])
    places = embed([seen.vectors[chosen]], seed)[0]
    at = dict(zip(chosen.tolist(), places.tolist(), strict=True))
    rows = []
    for i, name in sorted(enumerate(images.names), key=lambda item: item[1]):
        x, y = (f"{value:.3f}" for value in at[i]) if i in at else ("", "")
        nearest = ";".join(images.names[n] for n in seen.neighbours[i])
        rows.append(
            {"name": name, "cluster": int(seen.clusters[i]), "x": x, "y": y, "nearest": nearest}
        )
    write_csv(folder / "clusters.csv", rows)
    write_text(
        folder / "report.html", _page(seen, images, facts, places, seen.clusters[chosen], seed)
    )


def _page(
    seen: Seen,
    images: Images,
    facts: Mapping,
    places: np.ndarray,
    clusters: np.ndarray,
    seed: int,
) -> str:
    from markupsafe import Markup

    def shown(rows: Iterable[int]) -> list:
        return [(figures.thumbnail(images.pixels[i], SIDE), images.names[i]) for i in rows]

    environment = page_templates(Path(__file__).parent)
    queries = np.random.default_rng(seed).permutation(len(images))[:QUERIES]
    domain = np.zeros(len(places), int)
    return environment.get_template("gallery.html.jinja").render(
        facts=facts,
        source=Path(facts["data"]["source"]).name or facts["data"]["source"],
        count=len(images),
        silhouette=seen.silhouette,
        clusters=[(len(rows), shown(rows[:SHOWN])) for rows in seen.typical],
        queries=[(shown([i])[0], shown(seen.neighbours[i])) for i in queries],
        map=Markup(figures.feature_map("map", places, domain, clusters)),
    )
