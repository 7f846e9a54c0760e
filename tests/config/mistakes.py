"""Mistakes in a configuration file, and what is said of each."""

from __future__ import annotations

_TLS = "[grpc_server]\nuse_tls = true\n"
_PAIR = _TLS + 'crt_file = "a.crt"\nkey_file = "a.key"\n'

MISTAKES = {
    # unknown names
    "[grpc_server]\nmax_stream = 4": "grpc_server.max_stream: unknown key; did you mean grpc_server.max_streams?",
    "[scheduler]\nuse_tsl = true": "scheduler.use_tsl: unknown key; did you mean scheduler.use_tls?",
    "[jobs]\ncrt_file = 'x'": "jobs.crt_file: unknown key; did you mean grpc_server.crt_file?",
    '[jobs]\n"a\\nb" = 1': 'jobs."a\\nb": unknown key; the keys are directory, output_directory, '
    "state_directory, durability, keep_days, keep_jobs, keep_output_bytes, stop_grace_seconds, max_running, at_stop, "
    "unattended_seconds, shim, leftovers, pin_worker, use_cgroups, user, group, nice, oom_score_adj, limits, ceilings, "
    "environment",
    "[grpc_sever]": "grpc_sever: unknown section; did you mean grpc_server?",
    "[zzz]": "zzz: unknown section; the sections are grpc_server, scheduler, jobs, worker, log, web, tracing",
    "web.addr = 'x'": 'web.addr: must be host:port, such as 127.0.0.1:30000 or [::1]:30000, not "x"',
    "web.addr = '127.0.0.1:30000'": "web.addr: is the same address as grpc_server.addr",
    "web.page = true": "web.page: needs web.addr, where it is served",
    "web = {addr = ':1', page = true}": (
        "web.page: 0.0.0.0:1 is not loopback, and here the page has no TLS; `txworker web` serves it with TLS"
    ),
    f"web = {{addr = '127.0.0.1:1', page = true}}\njobs.state_directory = '/{'x' * 100}'": (
        f"web.page: needs the socket in the state directory, and the socket's path is too long: /{'x' * 100}"
    ),
    "addr = 'x:1'": "addr: unknown key; did you mean grpc_server.addr?",
    # types
    "jobs = 3": "jobs: must be a table, [jobs], not 3",
    "[[jobs]]": "jobs: must be a table, [jobs], not an array",
    "grpc_server.use_tls = 'yes'": 'grpc_server.use_tls: must be true or false, not "yes"',
    "grpc_server.use_tls = 1": "grpc_server.use_tls: must be true or false, not 1",
    "grpc_server.addr = 30000": "grpc_server.addr: must be a string, not 30000",
    "grpc_server.crt_file = 1979-05-27": "grpc_server.crt_file: must be a string, not a date or time",
    "scheduler.addr = {}": "scheduler.addr: must be a string, not a table",
    "grpc_server.max_streams = true": "grpc_server.max_streams: must be an integer, not true",
    "grpc_server.max_streams = 8.0": "grpc_server.max_streams: must be an integer, not 8.0",
    "jobs.stop_grace_seconds = '5'": 'jobs.stop_grace_seconds: must be a number of seconds, not "5"',
    "jobs.stop_grace_seconds = 'soon'": "jobs.stop_grace_seconds: must be a number of seconds, or a duration such as "
    '"1h30m", not "soon"',
    "jobs.stop_grace_seconds = '9999d'": "jobs.stop_grace_seconds: must be from 0 to 31536000 seconds, not 863913600.0",
    "jobs.keep_days = 'ever'": 'jobs.keep_days: must be a number of days, or a duration such as "1h30m", not "ever"',
    "jobs.limits.max_memory_bytes = 'much'": "jobs.limits.max_memory_bytes: must be an integer, or a size such as "
    '"2G" or "512MiB", not "much"',
    "jobs.stop_grace_seconds = true": "jobs.stop_grace_seconds: must be a number of seconds, not true",
    "jobs.max_running = false": "jobs.max_running: must be an integer, not false",
    "jobs.durability = 'disk'": 'jobs.durability: must be "process" or "machine", not "disk"',
    "jobs.keep_days = '1'": 'jobs.keep_days: must be a number of days, not "1"',
    # ranges
    "jobs.keep_days = -1": "jobs.keep_days: must be from 0 to 36500 days, not -1",
    "jobs.keep_jobs = -1": "jobs.keep_jobs: must be from 0 to 4611686018427387904, not -1",
    "grpc_server.max_streams = 0": "grpc_server.max_streams: must be from 1 to 10000, not 0",
    "grpc_server.max_streams = 10001": "grpc_server.max_streams: must be from 1 to 10000, not 10001",
    f"grpc_server.max_streams = 0x{'f' * 5000}": "grpc_server.max_streams: must be from 1 to 10000, not a huge integer",
    "jobs.max_running = -1": "jobs.max_running: must be from 0 to 1000000, not -1",
    "jobs.stop_grace_seconds = -0.5": "jobs.stop_grace_seconds: must be from 0 to 31536000 seconds, not -0.5",
    "jobs.stop_grace_seconds = nan": "jobs.stop_grace_seconds: must be from 0 to 31536000 seconds, not NaN",
    "jobs.stop_grace_seconds = inf": "jobs.stop_grace_seconds: must be from 0 to 31536000 seconds, not Infinity",
    "[jobs]\nshim = false\nat_stop = 'leave'": "jobs.at_stop: needs the shim, which jobs.shim = false leaves out",
    "[jobs]\nshim = false\nnice = 1": "jobs.nice: needs the shim, which jobs.shim = false leaves out",
    "[jobs]\nshim = false\nuser = '0'": "jobs.user: needs the shim, which jobs.shim = false leaves out",
    "[jobs]\nshim = false\ngroup = '0'": "jobs.group: needs the shim, which jobs.shim = false leaves out",
    "[jobs]\nshim = false\n[jobs.limits]\nmax_cpu_seconds = 1": "jobs.limits.max_cpu_seconds: needs the shim, which "
    "jobs.shim = false leaves out",
    "[jobs]\nshim = false\n[jobs.ceilings]\nmax_output_bytes = 1\nmax_processes = 1": "jobs.ceilings.max_processes: "
    "needs the shim, which jobs.shim = false leaves out",
    "jobs.shim = 1": "jobs.shim: must be true or false, not 1",
    "jobs.nice = 20": "jobs.nice: must be from -20 to 19, not 20",
    "jobs.oom_score_adj = 1001": "jobs.oom_score_adj: must be from -1000 to 1000, not 1001",
    # choices and names
    "jobs.leftovers = 'kill'": 'jobs.leftovers: must be "end" or "keep", not "kill"',
    'jobs.user = "a\\u0000b"': 'jobs.user: no such user: "a\\u0000b"',
    "jobs.user = 'nobody here'": 'jobs.user: no such user: "nobody here"',
    "jobs.user = '4000000000'": 'jobs.user: no such user: "4000000000"',
    "jobs.group = 'nobody here'": 'jobs.group: no such group: "nobody here"',
    # limits
    "jobs.limits = 3": "jobs.limits: must be a table of limits, not 3",
    "jobs.limits.max_open_file = 3": "jobs.limits.max_open_file: unknown key; did you mean max_open_files?",
    "jobs.limits.zzz = 3": "jobs.limits.zzz: unknown key; the keys are max_output_bytes, max_memory_bytes, "
    "max_cpu_seconds, max_open_files, max_processes",
    "jobs.ceilings.max_processes = -1": f"jobs.ceilings.max_processes: must be from 0 to {2**30}, not -1",
    "[jobs]\nlimits.max_processes = 9\nceilings.max_processes = 8": "jobs.limits.max_processes: 9 is more than "
    "jobs.ceilings.max_processes allows",
    # variables
    "jobs.environment = 3": "jobs.environment: must be a table of names and values, not 3",
    "jobs.environment.A = 3": "jobs.environment.A: must be a string, not 3",
    "jobs.environment.A = {}": "jobs.environment.A: must be a string, not a table",
    '[jobs.environment]\n"" = "x"': 'jobs.environment."": is not a valid variable name',
    '[jobs.environment]\n"A=B" = "x"': 'jobs.environment."A=B": is not a valid variable name',
    '[jobs.environment]\n"A\\u0000" = "x"': 'jobs.environment."A\\u0000": is not a valid variable name',
    '[jobs.environment]\nA = "secret\\u0000"': "jobs.environment.A: must not contain a NUL",
    f"[jobs.environment]\nA = '{'x' * 131070}'": "jobs.environment.A: is too long: 131071 bytes at most, with its name",
    "[jobs.environment]\nPWD = '/'": "jobs.environment.PWD: is set by the worker",
    "[jobs.environment]\nTXWORKER_JOB_ID = 'x'": "jobs.environment.TXWORKER_JOB_ID: is reserved for txworker",
    "[jobs.environment]\nTXWORKER_ADDR = 'h:1'": "jobs.environment.TXWORKER_ADDR: is reserved for txworker",
    # addresses
    **{
        f"grpc_server.addr = '{text}'": "grpc_server.addr: must be host:port, such as 127.0.0.1:30000 or [::1]:30000, "
        f'not "{text}"'
        for text in ("", "localhost", "::1:30000", "[::g]:1", "[]:1", "a b:1", "h:", "h:-1", "h:1 ", "h:٣")
    },
    "grpc_server.addr = 'h:65536'": 'grpc_server.addr: port must be from 0 to 65535 in "h:65536"',
    f"grpc_server.addr = 'h:{'9' * 5000}'": f'grpc_server.addr: port must be from 0 to 65535 in "h:{"9" * 73}...',
    "scheduler.addr = ':50000'": "scheduler.addr: must be host:port, such as 127.0.0.1:30000 or [::1]:30000, "
    'not ":50000"',
    "scheduler.addr = 'h:0'": 'scheduler.addr: port must be from 1 to 65535 in "h:0"',
    "scheduler.addr = 'h:70000'": 'scheduler.addr: port must be from 0 to 65535 in "h:70000"',
    "scheduler.advertise_addr = 'me'": "scheduler.advertise_addr: must be host:port, such as 127.0.0.1:30000 or "
    '[::1]:30000, not "me"',
    "scheduler.addrs = 'h:1'": 'scheduler.addrs: must be a list such as ["a:50000", "b:50000"], not "h:1"',
    "scheduler.addrs = ['h:1', '']": "scheduler.addrs: must not contain an empty address",
    "scheduler.addrs = ['h:1', 'h:1']": 'scheduler.addrs: "h:1" is listed twice',
    "scheduler.addrs = ['h:1', 3]": "scheduler.addrs: must be a string, not 3",
    "scheduler.addrs = ['h:0']": 'scheduler.addrs: port must be from 1 to 65535 in "h:0"',
    "[scheduler]\naddr = 'h:1'\naddrs = ['i:1']": "scheduler.addrs: replaces scheduler.addr; give only one of them",
    "scheduler.when_lost = 'end'": 'scheduler.when_lost: must be "keep" or "drain" or "stop", not "end"',
    "scheduler.when_lost = 'drain'": "scheduler.when_lost: needs scheduler.addr or scheduler.addrs",
    "[scheduler]\naddr = 'h:1'\nwhen_lost = 'stop'\nlost_after_seconds = 0": "scheduler.lost_after_seconds: must be "
    "more than 0: no scheduler answers at once",
    # tracing
    "tracing.endpoint = 'collector:4318'": "tracing.endpoint: must be a URL such as http://collector:4318, "
    'not "collector:4318"',
    "tracing.sample_ratio = 2": "tracing.sample_ratio: must be from 0 to 1, not 2",
    "tracing.sample_ratio = '1'": 'tracing.sample_ratio: must be a number from 0 to 1, not "1"',
    # the worker's name
    "worker.name = 'a b'": "worker.name: must be at most 128 of the characters A-Z, a-z, 0-9, '.', '_' and '-', "
    'not "a b"',
    "worker.nme = 'a'": "worker.nme: unknown key; did you mean worker.name?",
    "scheduler.advertise_addr = 'me:0'": 'scheduler.advertise_addr: port must be from 1 to 65535 in "me:0"',
    # directories
    "jobs.directory = 'none'": "jobs.directory: DIR/none is not a directory",
    "jobs.directory = 'a.crt'": "jobs.directory: DIR/a.crt is not a directory",
    "jobs.directory = '~'": "jobs.directory: DIR/~ is not a directory",
    f"jobs.directory = '{'x' * 300}'": f"jobs.directory: DIR/{'x' * 300} is not a directory",
    'jobs.directory = "a\\u0000b"': 'jobs.directory: must not contain a NUL, as "a\\u0000b" does',
    "jobs.output_directory = 'a.crt'": "jobs.output_directory: DIR/a.crt is not a directory",
    "jobs.state_directory = 'a.crt'": "jobs.state_directory: DIR/a.crt is not a directory",
    "jobs.output_directory = 'a.crt/out'": "jobs.output_directory: DIR/a.crt is not a directory",
    # TLS
    _TLS: "grpc_server.crt_file: must be given with grpc_server.use_tls = true",
    _TLS + "crt_file = ''\nkey_file = 'a.key'": "grpc_server.crt_file: must be given with grpc_server.use_tls = true",
    _TLS + "crt_file = 'a.crt'": "grpc_server.key_file: must be given with grpc_server.use_tls = true",
    _TLS + "crt_file = 'no'\nkey_file = 'a.key'": "grpc_server.crt_file: no such file DIR/no",
    _TLS + "crt_file = 'a.crt'\nkey_file = 'no'": "grpc_server.key_file: no such file DIR/no",
    _TLS + "crt_file = '.'\nkey_file = 'a.key'": "grpc_server.crt_file: cannot read DIR: it is not a regular file",
    _TLS + "crt_file = 'pipe'\nkey_file = 'a.key'": (
        "grpc_server.crt_file: cannot read DIR/pipe: it is not a regular file"
    ),
    _TLS + "crt_file = 'a.crt/x'\nkey_file = 'a.key'": "grpc_server.crt_file: cannot read DIR/a.crt/x: Not a directory",
    _TLS + "crt_file = 'a.key'\nkey_file = 'a.key'": "grpc_server.crt_file: no certificate (PEM) in DIR/a.key",
    _TLS + "crt_file = 'a.crt'\nkey_file = 'b.key'": "grpc_server.key_file: the key in DIR/b.key is not that of the "
    "certificate in DIR/a.crt",
    _TLS
    + "crt_file = 'a.crt'\nkey_file = 'rsa.key'": "grpc_server.key_file: the key in DIR/rsa.key is not that of the "
    "certificate in DIR/a.crt",
    _TLS + "crt_file = 'a.crt'\nkey_file = 'locked.key'": "grpc_server.key_file: the key in DIR/locked.key is "
    "encrypted, and the worker has no password for it",
    _TLS + "crt_file = 'a.crt'\nkey_file = 'a.crt'": "grpc_server.key_file: no private key (PEM) in DIR/a.crt usable "
    "with DIR/a.crt: ...",
    _PAIR + "client_ca_file = 'no'": "grpc_server.client_ca_file: no such file DIR/no",
    _PAIR + "client_ca_file = 'empty'": "grpc_server.client_ca_file: no certificate (PEM) in DIR/empty",
    _PAIR + "client_ca_file = 'revoked.crl'": "grpc_server.client_ca_file: no certificate (PEM) in DIR/revoked.crl",
    "grpc_server.client_ca_file = 'a.crt'": "grpc_server.client_ca_file: needs grpc_server.use_tls = true",
    "scheduler.ca_file = 'a.crt'": "scheduler.ca_file: needs scheduler.use_tls = true",
    "[scheduler]\nuse_tls = true\nca_file = 'no'": "scheduler.ca_file: no such file DIR/no",
    "[scheduler]\nuse_tls = true\nca_file = 'empty'": "scheduler.ca_file: no certificate (PEM) in DIR/empty",
    # the file itself
    "[jobs": "not TOML: ...",
    "[jobs]\n[jobs]": "not TOML: ...",
    f"jobs.max_running = {'9' * 5000}": "not TOML: ...",
    f"x = {'[' * 5000}": "not TOML: ...",
}
"""A configuration, and its error message, where DIR is the file's directory."""
