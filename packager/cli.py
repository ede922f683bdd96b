"""The command line: parse, call the API, print, and turn errors into exit codes.

The result goes to stdout and everything else to stderr. Imports stand inside the
commands, so that `packager --help` answers at once.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from packager.codegen import Language
from packager.errors import MissingToolError, PackagerError
from packager.report import console
from packager.schema import Document, json_schema

if TYPE_CHECKING:
    from typer._click import Context, Parameter

INTERRUPTED = 130
PIPE_CLOSED = 141
UNEXPECTED = 70
"""Exit codes besides those of `packager.errors`; 128 + the signal's number, and EX_SOFTWARE."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where a build wrote its results.")]

app = typer.Typer(
    add_completion=False,
    help="Prune, convert, prove and bundle a trained model for devices with no network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Emulation(StrEnum):
    """What can emulate devices."""

    QEMU = "qemu"


class Command(TyperCommand):
    """A command that takes --debug, and turns each error into a line and an exit code."""

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Add --debug to the command's own options."""
        *own, help_option = super().get_params(ctx)
        return [*own, _debug_option(), help_option]

    def invoke(self, ctx: "Context") -> None:
        """Run the command; leave with the exit code that its error has."""
        debug = ctx.params.pop("debug", False)
        with answered_for(debug=debug, as_json=ctx.params.get("as_json", False)):
            super().invoke(ctx)
            sys.stdout.flush()


@contextmanager
def answered_for(*, debug: bool, as_json: bool) -> Iterator[None]:
    """Turn an error inside the block into a line on stderr and an exit code.

    Raises:
        typer.Exit: With the error's exit code.
    """
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        # Whoever read the output has left; the flush at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 here every error ends
        _report(error, debug=debug, as_json=as_json)
        raise typer.Exit(exit_code(error)) from None


def exit_code(error: BaseException) -> int:
    """Return what the process exits with for an error that ended a command."""
    match error:
        case PackagerError():
            return error.exit_code
        case KeyboardInterrupt():
            return INTERRUPTED
        case ModuleNotFoundError():
            return MissingToolError.exit_code
        case _:
            return UNEXPECTED


def describe(error: BaseException) -> str:
    """Return what a user reads about an error: what, where and what to do next."""
    match error:
        case PackagerError():
            return str(error)
        case KeyboardInterrupt():
            return "stopped. Finished steps are kept; run the same command to go on."
        case ModuleNotFoundError():
            return f"{error}. `packager doctor` says what is missing and how to get it."
        case _:
            kind = type(error).__name__
            return f"unexpected {kind}: {error}. Run again with --debug to see where."


def _report(error: BaseException, *, debug: bool, as_json: bool) -> None:
    if debug:
        console.print_traceback()
    message = describe(error)
    console.print_error(message)
    if as_json:
        kind = type(error).__name__
        console.print_json({"error": kind, "message": message, "exit_code": exit_code(error)})


def _debug_option() -> "Parameter":
    """Return the option that every command has, made the way typer makes options."""

    def command(
        *,
        debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
    ) -> None:
        """Carry the option's declaration; nothing calls it."""

    carrier = typer.Typer(add_completion=False)
    carrier.command()(command)
    return typer.main.get_command(carrier).params[0]


def _print_version(asked: bool) -> None:  # noqa: FBT001 typer hands over what it parsed
    if asked:
        from packager import doctor

        with answered_for(debug=False, as_json=False):
            console.print_text(doctor.version())
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Say what holds for all commands: nothing but --version."""


@app.command(cls=Command)
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Created where it is missing.")],
) -> None:
    """Write a recipe and a model that build as they stand."""
    from packager import scaffold

    console.print_paths(scaffold.write_example(folder, scaffold.default_example()))


@app.command(cls=Command)
def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The path of a packager.toml.")],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Build for this target of the recipe; give it again for more.",
            show_default="all of the recipe's",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Receives bundles, report and build.json.")
    ] = Path("dist"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where published data sets lie already.",
            show_default="fetch them",
        ),
    ] = None,
    cache: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps the results of steps for the next build.")
    ] = Path(".packager-cache"),
    as_json: Json = False,
) -> None:
    """Take a model to its targets: bundles, a report, and a verdict for each."""
    from packager import pipeline
    from packager.recipe import load

    only = tuple(target or ())
    with console.progress_shown():
        built = pipeline.attempt(
            load(recipe), out=out, cache_root=cache, data_dir=data_dir, only=only
        )
    if not as_json:
        console.print_summary(built, out)
    pipeline.require_bundles(built)
    if as_json:
        console.print_artifact(built)


@app.command(cls=Command)
def targets(*, as_json: Json = False) -> None:
    """List the devices that can be built for."""
    from packager import target

    root = target.default_root()
    known = tuple(target.load(name, root) for name in target.find_profiles(root))
    console.print_artifact(known) if as_json else console.print_targets(known)


@app.command(cls=Command)
def doctor(*, as_json: Json = False) -> None:
    """Show which packages and programs are here, which are missing, and how to get them."""
    from packager import doctor as physician

    tools = physician.examine()
    if not physician.exit_code(tools):
        # This needs the core itself.
        from packager.device_setup import checkup

        tools += checkup.examine()
    console.print_json([asdict(tool) for tool in tools]) if as_json else console.print_tools(tools)
    raise typer.Exit(physician.exit_code(tools))


@app.command(cls=Command)
def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .zip that a build wrote.")],
    *,
    as_json: Json = False,
) -> None:
    """Verify a bundle, and show what is in it."""
    from packager import bundles

    opened = bundles.open_bundle(bundle)
    console.print_artifact(opened) if as_json else console.print_bundle(opened)


@app.command(cls=Command, name="check-input")
def check_input(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A frame, as a file.")],
    *,
    bundle: Annotated[Path, typer.Option(metavar="BUNDLE", help="A .zip that a build wrote.")],
    out: Annotated[
        Path, typer.Option(metavar="PNG", help="Receives the pictures, side by side.")
    ] = Path("check-input.png"),
) -> None:
    """Show what a bundle's program sees of an image, and what other resizers would change."""
    from packager import check_input as checker
    from packager.report import input_sheet

    check = checker.check_input(image, bundle)
    console.print_input_check(check)
    console.print_paths([input_sheet.write(check, out)])


@app.command(cls=Command)
def code(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .zip that a build wrote.")],
    *,
    language: Annotated[Language, typer.Option(help="What to write it in.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Receives the files.")] = Path(),
    package: Annotated[
        str, typer.Option(metavar="NAME", help="The package of Java code.", show_default="none")
    ] = "",
) -> None:
    """Write a bundle's contract as code: from raw frame to input, and from output to answer."""
    from packager import bundles, codegen

    opened = bundles.open_bundle(bundle)
    files = codegen.generate(opened.contract, opened.manifest.recipe, language, package=package)
    console.print_paths(codegen.write(files, out))


@app.command(cls=Command)
def validate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .zip that a build wrote.")],
    *,
    on: Annotated[
        list[str],
        typer.Option(
            metavar="DEVICE",
            help="host, qemu-user:CPU, qemu-system:CPU, adb[:SERIAL] or ssh:[USER@]HOST[:PORT]; "
            "give it again for more.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="ZIP",
            help="Receives the bundle with the evidence.",
            show_default="the bundle itself",
        ),
    ] = None,
    ram_mib: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Hold the program to N MiB, where the device can.",
            show_default="what the target has",
        ),
    ] = None,
    cache: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps built programs for the next run.")
    ] = Path(".packager-cache"),
    as_json: Json = False,
) -> None:
    """Run a bundle's own program on devices; keep the evidence in the bundle."""
    from packager import validate as validator
    from packager.devices.kit import default_root, open_kit

    kit = open_kit(default_root())
    ram_bytes = None if ram_mib is None else ram_mib * 2**20
    source, records = bundle, []
    for name in on:
        place = validator.Place(on=name, kit=kit, ram_bytes=ram_bytes, cache_root=cache)
        with console.progress_shown():
            validated = validator.validate(source, place, out or bundle)
        source = validated.bundle
        records.append(validated.record)
        if not as_json:
            console.print_validation(validated.record)
    console.print_artifact(records) if as_json else console.print_paths([source])


@app.command(cls=Command, name="setup-device")
def setup_device(
    kind: Annotated[Emulation, typer.Argument(help="What emulates the devices.")],  # noqa: ARG001 one so far
    *,
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="Unpack emulators and compilers into the kit; install nothing."
        ),
    ] = False,
    locked: Annotated[
        bool,
        typer.Option("--locked", help="Refuse Debian packages that are newer than the pinned."),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to put the kit; PACKAGER_DEVICE_KIT must name it from then on.",
            show_default="one in your cache",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch, verify and try out what emulated devices need; root installs it, others unpack it."""
    from packager.device_setup import setup
    from packager.devices.kit import default_root

    wish = setup.Wish(private=private, locked=locked)
    with console.progress_shown():
        outcome = setup.set_up((folder or default_root()).absolute(), wish)
    if as_json:
        console.print_artifact(outcome)
    else:
        console.print_kit(outcome.kit.record, outcome.kit.root, made=outcome.made)


@app.command(cls=Command)
def report(folder: Folder) -> None:
    """Write DIR/report.html again, from DIR/build.json."""
    from packager import publish

    console.print_paths([publish.write_report(publish.read(folder), folder)])


@app.command(cls=Command)
def explain(folder: Folder) -> None:
    """Say which steps of the build in DIR ran, which were reused, and why."""
    from packager import publish

    console.print_steps(publish.read(folder))


@app.command(cls=Command)
def schema(
    document: Annotated[Document, typer.Argument(help="Which file to describe.")] = Document.RECIPE,
) -> None:
    """Print the JSON Schema of a file, for an editor that completes and checks it."""
    console.print_json(json_schema(document))


def main() -> None:
    """Run the command line, and leave with its exit code."""
    app()
