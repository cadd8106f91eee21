%% The release as users get it, and its executable `epmd', run in processes that
%% are known by a variable of their environment: whatever becomes of them they
%% can be found and ended.
-module(release).

-export([
    root/0, epmd/0,
    port/0,
    run/2, run/3,
    shell/2, shell/3,
    start/3,
    environment/1, environment/2,
    daemon/1,
    pid/1,
    keeper/1,
    names/1,
    processes/1, vms/1,
    is_free/1,
    await_end/1,
    end_all/1,
    copy/1
]).

%% What marks the processes of a port.
-define(MARK, "EPMD_OF_TEST").

%% @doc Where the release is. It is built when it is asked for first, unless the
%% environment tells where one is.
-spec root() -> file:filename().
root() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            Root = root(os:getenv("RELEASE_TO_TEST")),
            persistent_term:put(?MODULE, Root),
            Root;
        Root ->
            Root
    end.

root(false) ->
    Options = [{cd, program:root()}, {env, program:environment([])}],
    case testkit:run(["make", "release"], Options) of
        {0, _} -> filename:join(program:root(), "_build/prod/rel/portmapper");
        Failed -> error(Failed)
    end;
root(Built) ->
    Built.

%% @doc The path of the executable.
-spec epmd() -> file:filename().
epmd() ->
    filename:join(root(), "bin/epmd").

%% @doc A port for a test case.
-spec port() -> inet:port_number().
port() ->
    own_vm:free_port().

%% @doc Runs the executable on a port of loopback until it ends.
-spec run(inet:port_number(), [string()]) -> {non_neg_integer(), binary()}.
run(Port, Arguments) ->
    run(Port, Arguments, []).

%% @doc The same with more variables.
-spec run(inet:port_number(), [string()], [{string(), string() | false}]) ->
    {non_neg_integer(), binary()}.
run(Port, Arguments, Variables) ->
    testkit:run([epmd() | Arguments], [{env, environment(Port, Variables)}]).

%% @doc Runs a script of the shell, in which `$EPMD' is the executable.
-spec shell(inet:port_number(), iodata()) -> {non_neg_integer(), binary()}.
shell(Port, Script) ->
    shell(Port, Script, []).

-spec shell(inet:port_number(), iodata(), [{string(), string() | false}]) ->
    {non_neg_integer(), binary()}.
shell(Port, Script, Variables) ->
    Command = ["timeout", "60", "sh", "-c", unicode:characters_to_list(Script)],
    testkit:run(Command, [{env, environment(Port, Variables)}]).

%% @doc Starts a program that goes on, see `program'.
-spec start(inet:port_number(), [string()], [{string(), string() | false}]) -> program:program().
start(Port, Command, Variables) ->
    program:start(Command, [{env, environment(Port, Variables)}]).

%% @doc The variables of what a test case starts.
-spec environment(inet:port_number()) -> [{string(), string() | false}].
environment(Port) ->
    environment(Port, []).

-spec environment(inet:port_number(), [{string(), string() | false}]) ->
    [{string(), string() | false}].
environment(Port, Variables) ->
    Own = [
        {"EPMD", epmd()},
        {"ERL_EPMD_ADDRESS", "127.0.0.1"},
        {?MARK, integer_to_list(Port)}
        | testkit:epmd_port(Port)
    ],
    program:environment(lists:ukeymerge(1, lists:keysort(1, Variables), lists:keysort(1, Own))).

%% @doc Starts one in the background, and yields the pid of its VM.
-spec daemon(inet:port_number()) -> Pid :: string().
daemon(Port) ->
    {0, <<>>} = run(Port, ["-daemon"]),
    pid(Port).

%% @doc The pid of the VM that serves a port.
-spec pid(inet:port_number()) -> string().
pid(Port) ->
    {0, Facts} = run(Port, ["-info"]),
    {match, [Pid]} = re:run(Facts, "^pid (\\d+)$", [multiline, {capture, all_but_first, list}]),
    Pid.

%% @doc The pid of the keeper of a VM: its parent.
-spec keeper(Pid :: string()) -> string().
keeper(Pid) ->
    {ok, Text} = file:read_file(["/proc/", Pid, "/stat"]),
    [_, Rest] = string:split(Text, ") ", trailing),
    [_State, Parent | _] = string:lexemes(Rest, " "),
    binary_to_list(Parent).

%% @doc What `epmd -names' prints behind its first line.
-spec names(inet:port_number()) -> [binary()].
names(Port) ->
    {0, Output} = run(Port, ["-names"]),
    Heading = iolist_to_binary(
        io_lib:format("epmd: up and running on port ~b with data:", [Port])
    ),
    [Heading | Names] = string:lexemes(Output, "\n"),
    Names.

%% @doc The pids of all processes that were started for a port and still run.
-spec processes(inet:port_number()) -> [string()].
processes(Port) ->
    Mark = iolist_to_binary([0, ?MARK, $=, integer_to_list(Port), 0]),
    IsMarked = fun(Pid) ->
        case file:read_file(["/proc/", Pid, "/environ"]) of
            {ok, Variables} -> binary:match(<<0, Variables/binary, 0>>, Mark) =/= nomatch;
            {error, _} -> false
        end
    end,
    {ok, Files} = file:list_dir("/proc"),
    [Pid || [Digit | _] = Pid <- Files, Digit >= $0, Digit =< $9, IsMarked(Pid)].

%% @doc Those of them that are VMs of the release, whatever they call themselves.
-spec vms(inet:port_number()) -> [string()].
vms(Port) ->
    [Machine] = filelib:wildcard(filename:join(root(), "erts-*/bin/beam.smp")),
    [Pid || Pid <- processes(Port), {ok, Machine} =:= file:read_link(["/proc/", Pid, "/exe"])].

%% @doc Whether the port can be bound at once, with nobody left on it.
-spec is_free(inet:port_number()) -> boolean().
is_free(Port) ->
    case gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}]) of
        {ok, Socket} -> ok =:= gen_tcp:close(Socket);
        {error, _} -> false
    end.

%% @doc Waits until nothing that was started for a port is left.
-spec await_end(inet:port_number()) -> ok.
await_end(Port) ->
    testkit:wait_until(fun() -> processes(Port) =:= [] andalso is_free(Port) end).

%% @doc Ends all that was started for a port.
-spec end_all(inet:port_number()) -> ok.
end_all(Port) ->
    testkit:wait_until(fun() ->
        Pids = processes(Port),
        Pids =/= [] andalso testkit:run(["kill", "-9" | Pids]),
        Pids =:= []
    end).

%% @doc A copy of the release that may be broken.
-spec copy(file:filename()) -> Root :: file:filename().
copy(Directory) ->
    Copy = filename:join(Directory, "release"),
    {0, _} = testkit:run(["cp", "-R", root(), Copy]),
    Copy.
