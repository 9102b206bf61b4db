"""Puts the chapters into the wheel, as data; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

#: What `mflib run` and `mflib sweep` read of a checkout, besides mflib itself.
SHIPPED = ("_toc.yml", "notebooks/*.ipynb", "book/*.csv", "book/*.bib", "book/records/**/*.json")


class WithChapters(build_py):
    """Copies them to where ``mflib.book.chapters.find_root`` looks last."""

    def run(self):
        super().run()
        if self.editable_mode:  # the checkout itself is used
            return
        target = Path(self.build_lib, "mflib", "book", "shipped")
        for pattern in SHIPPED:
            found = sorted(Path().glob(pattern))
            if not found:
                raise FileNotFoundError(f"{pattern}: not here; build the wheel in the checkout")
            for path in found:
                self.mkpath(str(target / path.parent))
                self.copy_file(str(path), str(target / path))


setup(cmdclass={"build_py": WithChapters})
