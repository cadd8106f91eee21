%% A system log of the test's own: a socket that is `/dev/log' to programs in a
%% mount namespace, which ends with them.
-module(system_log).

-export([available/0, with/1, close_socket/1, open_socket/1, path/1, script/2, next/1]).
-export_type([log/0]).

-type log() :: file:filename().

%% Paths of sockets are short.
-define(DIRECTORY, "/tmp").

%% @doc Whether this host lets the tests make mount namespaces.
-spec available() -> boolean().
available() ->
    os:find_executable("unshare") =/= false andalso
        element(1, testkit:run(["unshare", "--mount", "true"])) =:= 0.

%% @doc Does something with a system log that ends then.
-spec with(fun((log()) -> Result)) -> Result.
with(Fun) ->
    Log = open(),
    try
        Fun(Log)
    after
        close(Log)
    end.

open() ->
    {0, Name} = testkit:run(["mktemp", "-d", ?DIRECTORY ++ "/portmapper.XXXXXX"]),
    Log = string:trim(binary_to_list(Name)),
    ok = open_socket(Log),
    Log.

-spec open_socket(log()) -> ok.
open_socket(Log) ->
    Address = {local, path(Log)},
    {ok, Socket} = gen_udp:open(0, [local, binary, {active, false}, {ifaddr, Address}]),
    _ = put({?MODULE, Log}, Socket),
    ok.

%% @doc As a system log that ends: its socket stays in the directory.
-spec close_socket(log()) -> ok.
close_socket(Log) ->
    gen_udp:close(erase({?MODULE, Log})).

close(Log) ->
    _ = get({?MODULE, Log}) =:= undefined orelse close_socket(Log),
    file:del_dir_r(Log).

-spec path(log()) -> file:filename().
path(Log) ->
    filename:join(Log, "log").

%% @doc A script that does the commands where `/dev/log' is this log.
-spec script(log(), iodata()) -> iodata().
script(Log, Commands) ->
    Inside = [
        "mkdir -p ", Log, "/dev; for name in null zero random urandom; do ",
        "touch ", Log, "/dev/$name; mount --bind /dev/$name ", Log, "/dev/$name; done; ",
        "ln -sf ", path(Log), " ", Log, "/dev/log; mount --rbind ", Log, "/dev /dev; ", Commands
    ],
    ["unshare --mount sh -ec '", Inside, "'"].

%% @doc The next message: its severity and text.
-spec next(log()) -> {logger:level(), binary()}.
next(Log) ->
    {ok, {_From, _Port, Message}} = gen_udp:recv(get({?MODULE, Log}), 0, 10_000),
    {match, [Priority, Text]} = re:run(
        Message, "^<(\\d+)>epmd\\[\\d+\\]: (.*)$", [{capture, all_but_first, binary}, dotall]
    ),
    %% Of the facility `daemon'.
    Severity = binary_to_integer(Priority) - 3 * 8,
    {lists:nth(Severity + 1, severities()), Text}.

severities() ->
    [emergency, alert, critical, error, warning, notice, info, debug].
