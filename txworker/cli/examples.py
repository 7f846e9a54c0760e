"""Examples of every command and option, which --help shows; tests/live/test_cli_examples.py runs them all."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "start": (
        ("txworker start --label night=1 --max-memory 2G python3 -u report.py --all", "print the job's id"),
        ("txworker start --env LANG=C --directory /tmp --timeout 1h30m --quiet-timeout 10m true", ""),
        ("txworker start --stdin data.csv --separate-stderr sort -n", "a local file is the job's standard input"),
        ("txworker start --request-id night-31 --leftovers keep true", "again: the same job, not a second one"),
        ("txworker start --max-output 512MiB --max-cpu 1h --max-open-files 1024 true", ""),
    ),
    "run": (
        ("txworker run bash count.sh", "start, follow the output, exit as the job does"),
        ("echo in | txworker run cat", "a pipe is the job's standard input"),
        ("txworker run --tty bash", "a shell in a terminal of its own; Enter ~ . leaves it running"),
        ("txworker run --detach bash count.sh", "print the job's id, and leave the job to itself"),
        ("txworker run -d --max-processes 4096 true", ""),
        ("txworker run --lease 30s bash count.sh", "the job ends half a minute after this program does, however"),
        ("txworker run bash -c 'ls | wc -l'", "jobs have no shell unless they start one"),
    ),
    "stop": (
        ("txworker stop --grace 2 JOB JOB", "TERM now, KILL in 2 seconds"),
        ("txworker stop --label night=1 --wait", "all with this label; return when they are done"),
        ("txworker stop --all", "every job of the worker"),
    ),
    "kill": (
        ("txworker kill JOB", "KILL at once"),
        ("txworker kill -s HUP JOB JOB", "only send that signal; SIGHUP and 1 are the same"),
        ("txworker kill --signal SIGINT JOB", ""),
        ("txworker kill --label night=1 --wait", ""),
        ("txworker kill --all", ""),
    ),
    "renew": (("txworker renew JOB JOB", "their leases count from now"), ("txworker renew --json JOB", "")),
    "query": (("txworker query JOB JOB", "how they stand"), ("txworker query --json JOB", "")),
    "inspect": (("txworker inspect JOB", "all that is known, with how it was started"),),
    "stream": (
        ("txworker stream --tail 20 JOB", "the last 20 lines, then new ones"),
        ("txworker stream --tail 0 JOB", "only what comes from now on"),
        ("txworker stream --offset 1 --no-follow JOB", "from that byte to the end of what is there"),
        ("txworker stream --stderr --text JOB", "a separate stderr, as valid UTF-8"),
    ),
    "logs": (
        ("txworker logs --tail 20 JOB", "what is there"),
        ("txworker logs --since 10m JOB JOB", "of those that were not done ten minutes ago"),
        ("txworker logs --follow --tail 0 JOB", "only what comes from now on"),
        ("txworker logs -f JOB JOB", "until both are done, with the job's id before each line"),
    ),
    "ps": (
        ("txworker ps --state running,failed --label night=1", "jobs, newest first"),
        ("txworker ps --since 1h30m --limit 0 --no-trunc", "all of the last one and a half hours, with whole ids"),
        ("txworker ps --worker build,test", "of two workers that client.toml names"),
        ("txworker ps --all-workers --json", "of all that it names"),
        ("txworker ps -L night,customer", "with columns for these labels"),
        ("txworker ps --label-column night --no-trunc", ""),
        ("txworker ps --quiet --state lost", ""),
        ("txworker ps -q --label night --until 2031-01-31T12:00:00Z", "only ids; a label of any value"),
    ),
    "wait": (
        ("txworker wait JOB JOB && echo both succeeded", "until they are done"),
        ("txworker wait --quiet --timeout 1h JOB", ""),
        ("txworker wait -q --json JOB JOB", ""),
    ),
    "watch": (
        ("txworker watch JOB JOB", "a line for every change, until they are done"),
        ("txworker watch --label night=1 --no-finished", ""),
        ("txworker watch --all-workers", "of every worker that client.toml names"),
        ("txworker watch --json --no-trunc", "every change of every job"),
    ),
    "top": (
        ("txworker top", "on a terminal until q is typed; c, m, p, r, o, j: sort by CPU, memory and so on"),
        ("txworker top --once --sort memory --label night=1 -L night", "a table"),
        ("txworker top --json --interval 1 --all-workers", "for programs, of every worker that client.toml names"),
        ("txworker top --label-column night --no-trunc JOB JOB", "until both are done"),
    ),
    "drain": (("txworker drain --state-directory state --wait", "on the worker's machine; until it has ended"),),
    "health": (
        ("txworker health", "SERVING and status 0, or NOT_SERVING and 1: it drains, or its disk is full"),
        ("txworker health --live --state-directory state", "0 if it answers at all; over its socket, without TLS"),
    ),
    "web": (
        ("txworker web", "shows the worker of $TXWORKER_ADDR at http://127.0.0.1:30080/"),
        ("txworker web --worker build,test --allow-stop", "two workers that client.toml names; may stop their jobs"),
        ("txworker web --all-workers --listen 127.0.0.1:0", "all that it names, on any free port"),
        (
            "txworker web --listen 0.0.0.0:443 --name jobs.example --web-cert page.pem --web-key page.key"
            " --client-ca users.pem",
            "beyond this machine: for browsers with a certificate",
        ),
    ),
    "completion": (
        ('eval "$(txworker completion bash)"', "for ~/.bashrc; needs: pip install 'txworker[completion]'"),
        ("txworker completion zsh > _txworker", "in a directory of $fpath"),
        ("txworker completion fish > txworker.fish", "in ~/.config/fish/completions"),
    ),
    "help": (("txworker help", "all commands"), ("txworker help run", "the options of one, with examples")),
    "handover": (("txworker handover --state-directory state", "its jobs run on for the next worker"),),
    "reload": (
        ("txworker reload --state-directory state", "on the worker's machine; as SIGHUP, and says what changes"),
    ),
    "check": (("txworker check --state-directory state", "on the worker's machine; what a reload would change"),),
}

GENERAL: tuple[tuple[str, str], ...] = (
    ("txworker --worker build run true", "on a worker that ~/.config/txworker/client.toml names"),
    ("txworker --addr worker:30000 --deadline 30 --patience 10m ps", ""),
    ("txworker --version", ""),
    ("txworker --color never ps", "always, auto; $NO_COLOR is obeyed"),
    ("txworker --tls-ca ca.pem --tls-cert me.pem --tls-key me.key ps", ""),
)


def lines_of(examples: tuple[tuple[str, str], ...]) -> str:
    """As --help shows them."""
    return "\n".join(f"  {line}{f'    # {words}' if words else ''}" for line, words in examples)


def one_of_each() -> str:
    """The first example of each command, and the general ones."""
    return lines_of((*(examples[0] for examples in EXAMPLES.values()), *GENERAL))
