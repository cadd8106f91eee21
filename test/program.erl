%% Programs as a user runs them: from the root of the project, in an environment
%% without what the VM of the suites has of its own in it.
-module(program).

-export([root/0, environment/1, start/2, send/2, await/2, await_exit/1, stop/1]).
-export_type([program/0]).

-type program() :: port().

%% Compiles on a busy machine, too.
-define(DEADLINE, 240_000).

%% @doc The root of the project.
-spec root() -> file:filename().
root() ->
    %% A link: what is above it is not what its path says.
    {ok, Target} = file:read_link(filename:join(code:lib_dir(portmapper), "erlang_src")),
    {ok, Root} = realpath(filename:join([code:lib_dir(portmapper), Target, ".."])),
    Root.

realpath(Path) ->
    {0, Output} = testkit:run(["realpath", Path]),
    {ok, string:trim(unicode:characters_to_list(Output))}.

%% @doc The variables to set for open_port/2, of which some are given.
-spec environment([{string(), string() | false}]) -> [{string(), string() | false}].
environment(Given) ->
    Own = ["BINDIR", "EMU", "ESCRIPT_NAME", "PROGNAME", "ROOTDIR", "TEST_SERVER_", "ERL_",
        "REBAR_", "MAKE", "MFLAGS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"],
    IsOwn = fun(Name) -> lists:any(fun(Prefix) -> lists:prefix(Prefix, Name) end, Own) end,
    Unset = [{Name, false} || {Name, _} <- os:env(), IsOwn(Name)],
    Runtime = filename:join(root(), "_build/run"),
    ok = filelib:ensure_path(Runtime),
    %% For output without colours, and for files that a killed program leaves.
    Unset ++ [{"TERM", "dumb"}, {"RUNTIME_DIRECTORY", Runtime} | Given].

%% @doc Starts a program whose input stays open.
-spec start([string()], Options :: list()) -> program().
start([Name | Arguments], Options) ->
    open_port(
        {spawn_executable, os:find_executable(Name)},
        [{args, Arguments}, exit_status, binary, stderr_to_stdout, hide | Options]
    ).

-spec send(program(), iodata()) -> ok.
send(Program, Input) ->
    true = port_command(Program, Input),
    ok.

%% @doc Waits for a pattern in the output, and yields the output so far.
-spec await(program(), Pattern :: iodata()) -> Output :: binary().
await(Program, Pattern) ->
    await(Program, Pattern, <<>>).

await(Program, Pattern, Output) ->
    case re:run(Output, Pattern, [unicode]) of
        {match, _} ->
            Output;
        nomatch ->
            receive
                {Program, {data, Data}} ->
                    await(Program, Pattern, <<Output/binary, Data/binary>>);
                {Program, {exit_status, Status}} ->
                    error({ended, Status, Output})
            after ?DEADLINE -> error({not_in_time, Pattern, Output})
            end
    end.

%% @doc The exit status, and the output since it was last waited for.
-spec await_exit(program()) -> {non_neg_integer(), Output :: binary()}.
await_exit(Program) ->
    await_exit(Program, <<>>).

await_exit(Program, Output) ->
    receive
        {Program, {data, Data}} -> await_exit(Program, <<Output/binary, Data/binary>>);
        {Program, {exit_status, Status}} -> {Status, Output}
    after ?DEADLINE -> error({not_in_time, Output})
    end.

%% @doc Ends what still runs of a program, and of those that it started: they
%% are one process group.
-spec stop(program()) -> ok.
stop(Program) ->
    case erlang:port_info(Program, os_pid) of
        {os_pid, Pid} ->
            {0, _} = testkit:run(["kill", "-9", "--", "-" ++ integer_to_list(Pid)]),
            ok;
        undefined ->
            ok
    end.
