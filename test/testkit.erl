%% What the suites share: port mappers and nodes in VMs of their own, raw
%% requests, waiting with a deadline.
-module(testkit).

-export([
    start_portmapper/0, start_portmapper/1,
    restart_portmapper/2,
    start_node/2, start_node/3,
    start_nodes/2,
    start_vm/1,
    call/4,
    stop/1,
    kill/1,
    resources/1,
    epmd_port/1,
    connect/1,
    request/2,
    receive_all/1,
    names/1,
    lookup/2,
    alive2/1, alive2/3,
    register/3,
    register/4,
    wait_until/1, wait_until/2,
    run/1, run/2
]).
-export_type([vm/0]).

%% A VM that this one started, controlled over its standard streams. It ends
%% with the process that started it at the latest.
-type vm() :: #{peer := pid(), os_pid := string()}.

-define(DEADLINE, 10_000).
%% Many VMs share few cores here.
-define(SMALL_VM, ["+S", "1:1", "+SDcpu", "1:1", "+SDio", "1", "+A", "1", "+sbwt", "none"]).

%% @doc A non-distributed VM with portmapper started on loopback, on a port
%% that the system chose.
start_portmapper() ->
    start_portmapper(#{}).

%% @doc The same with more of: application environment (`config'), how the
%% application is started (`type'), and what start_vm/1 takes.
-spec start_portmapper(map()) -> {vm(), inet:port_number()}.
start_portmapper(Options) ->
    %% A port that nobody else gets when it is started anew.
    Own = #{port => own_vm:free_port(), addresses => ["127.0.0.1"], takeover_socket => none},
    Config = maps:merge(Own, maps:get(config, Options, #{})),
    VM = #{peer := Peer} = start_vm(Options),
    [ok = peer:call(Peer, application, set_env, [portmapper, Key, Value])
     || {Key, Value} <- maps:to_list(Config)],
    Type = maps:get(type, Options, temporary),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [portmapper, Type]),
    #{addresses := [{_, Port} | _]} = peer:call(Peer, portmapper, info, []),
    {VM, Port}.

%% @doc Stops it, which forgets all nodes, and starts it again on its port.
-spec restart_portmapper(vm(), inet:port_number()) -> ok.
restart_portmapper(VM, Port) ->
    ok = call(VM, portmapper, stop, []),
    ok = call(VM, application, set_env, [portmapper, port, Port]),
    call(VM, application, start, [portmapper]).

%% @doc An ordinary `erl' node, `Name@127.0.0.1', that registers on `Port'.
start_node(Name, Port) ->
    start_node(Name, Port, []).

%% @doc The same with arguments of `erl', or with what start_vm/1 takes.
-spec start_node(atom() | string(), inet:port_number(), [string()] | map()) -> vm().
start_node(Name, Port, Arguments) when is_list(Arguments) ->
    start_node(Name, Port, #{args => Arguments});
start_node(Name, Port, Options) ->
    Arguments = maps:get(args, Options, []),
    start_vm(Options#{
        name => Name,
        args => ["-start_epmd", "false", "-setcookie", "portmapper" | Arguments],
        %% `global' has much to say when nodes die.
        logger_level => critical,
        env => epmd_port(Port)
    }).

%% @doc The same for many nodes at a time.
-spec start_nodes([atom() | string()], inet:port_number()) -> [vm()].
start_nodes(Names, Port) ->
    Owner = self(),
    Start = fun(Name) -> exit({started, start_node(Name, Port, #{owner => Owner})}) end,
    Starting = [spawn_monitor(fun() -> Start(Name) end) || Name <- Names],
    [
        receive
            {'DOWN', Monitor, process, Pid, {started, VM}} -> VM;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
        end
     || {Pid, Monitor} <- Starting
    ].

%% @doc The environment in which programs use this port.
-spec epmd_port(inet:port_number()) -> [{string(), string()}].
epmd_port(Port) ->
    [{"ERL_EPMD_PORT", integer_to_list(Port)}].

%% @doc A VM with nothing started in it. Options: arguments of `erl' (`args'),
%% modules whose directories are in the code path (`modules'), by default
%% `portmapper', environment variables (`env'), `logger_level', a command to start
%% `erl' with (`exec'), and for a node its `name', and its `host' if not loopback.
-spec start_vm(map()) -> vm().
start_vm(Options) ->
    Modules = maps:get(modules, Options, [portmapper]),
    Paths = [filename:absname(filename:dirname(code:which(Module))) || Module <- Modules],
    Level = maps:get(logger_level, Options, warning),
    Named =
        case Options of
            #{name := Name} ->
                Host = maps:get(host, Options, "127.0.0.1"),
                #{name => Name, host => Host, longnames => true};
            _ ->
                #{}
        end,
    {ok, Peer} = start_peer(Named#{
        connection => standard_io,
        args =>
            ?SMALL_VM ++
                ["-pa"] ++ Paths ++ ["-kernel", "logger_level", atom_to_list(Level)] ++
                maps:get(args, Options, []),
        env => [{"ERL_CRASH_DUMP_SECONDS", "0"} | maps:get(env, Options, [])],
        exec => maps:get(exec, Options, os:find_executable("erl")),
        wait_boot => 60_000
    }),
    VM = #{peer => Peer, os_pid => peer:call(Peer, os, getpid, [])},
    Owner = maps:get(owner, Options, self()),
    _ = spawn(fun() -> end_with(Owner, VM) end),
    VM.

end_with(Owner, #{peer := Peer, os_pid := Pid}) ->
    OfOwner = monitor(process, Owner),
    OfPeer = monitor(process, Peer),
    receive
        {'DOWN', OfPeer, process, Peer, _} -> ok;
        {'DOWN', OfOwner, process, Owner, _} -> run(["kill", "-9", Pid])
    end.

start_peer(Options) ->
    case peer:start(Options) of
        {ok, Peer} -> {ok, Peer};
        {ok, Peer, _Node} -> {ok, Peer}
    end.

-spec call(vm(), module(), atom(), list()) -> term().
call(#{peer := Peer}, Module, Function, Arguments) ->
    peer:call(Peer, Module, Function, Arguments, 60_000).

-spec stop(vm()) -> ok.
stop(#{peer := Peer}) ->
    try
        peer:stop(Peer)
    catch
        exit:_ -> ok
    end.

%% @doc `kill -9'.
-spec kill(vm()) -> ok.
kill(#{os_pid := Pid}) ->
    {0, _} = run(["kill", "-9", Pid]),
    ok.

%% @doc How many descriptors and threads the VM has.
-spec resources(vm()) -> [non_neg_integer()].
resources(#{os_pid := Pid}) ->
    [length(element(2, file:list_dir(["/proc/", Pid, Kind]))) || Kind <- ["/fd", "/task"]].

-spec connect(inet:port_number()) -> gen_tcp:socket().
connect(Port) ->
    connect(Port, []).

connect(Port, More) ->
    Options = [binary, {active, false} | More],
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, Options, ?DEADLINE),
    Socket.

%% @doc The whole reply to a request, given without its length field.
-spec request(inet:port_number(), iodata()) -> binary().
request(Port, Body) ->
    Socket = connect(Port),
    ok = gen_tcp:send(Socket, [<<(iolist_size(Body)):16>>, Body]),
    Reply = receive_all(Socket),
    ok = gen_tcp:close(Socket),
    Reply.

%% @doc What comes until the other side closes.
-spec receive_all(gen_tcp:socket()) -> binary().
receive_all(Socket) ->
    receive_all(Socket, <<>>).

receive_all(Socket, Received) ->
    case gen_tcp:recv(Socket, 0, ?DEADLINE) of
        {ok, Data} -> receive_all(Socket, <<Received/binary, Data/binary>>);
        {error, closed} -> Received
    end.

%% @doc What a NAMES request tells: the newest registration first.
-spec names(inet:port_number()) -> [{Name :: binary(), NodePort :: inet:port_number()}].
names(Port) ->
    <<Port:32, Listing/binary>> = request(Port, "n"),
    [
        begin
            [<<"name">>, Name, <<"at">>, <<"port">>, NodePort] = string:lexemes(Line, " "),
            {Name, binary_to_integer(NodePort)}
        end
     || Line <- string:lexemes(Listing, "\n")
    ].

%% @doc What a PORT_PLEASE2 request tells.
-spec lookup(inet:port_number(), iodata()) -> {ok, NodePort :: inet:port_number()} | not_found.
lookup(Port, Name) ->
    case request(Port, ["z", Name]) of
        <<$w, 0, NodePort:16, _/binary>> -> {ok, NodePort};
        <<$w, 1>> -> not_found
    end.

%% @doc The body of a registration, as `erl' of version 6 makes it.
-spec alive2(iodata()) -> iodata().
alive2(Name) ->
    alive2(Name, 50000, <<>>).

-spec alive2(iodata(), inet:port_number(), iodata()) -> iodata().
alive2(Name, NodePort, Extra) ->
    [
        <<$x, NodePort:16, 77, 0, 6:16, 5:16>>,
        [<<(iolist_size(Name)):16>>, Name],
        [<<(iolist_size(Extra)):16>>, Extra]
    ].

%% @doc Registers a name over a connection that stays: the connection and the
%% creation, or that it was refused.
-spec register(inet:port_number(), iodata(), inet:port_number()) ->
    {ok, gen_tcp:socket(), portmapper:creation()} | refused.
register(Port, Name, NodePort) ->
    register(Port, Name, NodePort, []).

%% @doc The same with more options of the socket.
-spec register(inet:port_number(), iodata(), inet:port_number(), [gen_tcp:connect_option()]) ->
    {ok, gen_tcp:socket(), portmapper:creation()} | refused.
register(Port, Name, NodePort, Options) ->
    Socket = connect(Port, Options),
    Body = alive2(Name, NodePort, <<>>),
    ok = gen_tcp:send(Socket, [<<(iolist_size(Body)):16>>, Body]),
    case gen_tcp:recv(Socket, 6, ?DEADLINE) of
        {ok, <<$v, 0, Creation:32>>} -> {ok, Socket, Creation};
        {ok, <<$v, 1, 99:32>>} -> refused
    end.

%% @doc Waits until the fun returns `true'.
wait_until(Fun) ->
    wait_until(Fun, ?DEADLINE).

-spec wait_until(fun(() -> boolean()), Milliseconds :: pos_integer()) -> ok.
wait_until(Fun, Milliseconds) ->
    wait_until_deadline(Fun, erlang:monotonic_time(millisecond) + Milliseconds).

wait_until_deadline(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        false ->
            Late = erlang:monotonic_time(millisecond) > Deadline,
            Late andalso error({not_in_time, Fun}),
            timer:sleep(5),
            wait_until_deadline(Fun, Deadline)
    end.

%% @doc Runs a program: its exit status and what it printed.
run(Command) ->
    run(Command, []).

-spec run([string()], Options :: list()) -> {non_neg_integer(), binary()}.
run([Program | Arguments], Options) ->
    Path = os:find_executable(Program),
    is_list(Path) orelse error({not_found, Program}),
    Port = open_port(
        {spawn_executable, Path},
        [{args, Arguments}, exit_status, binary, stderr_to_stdout, hide | Options]
    ),
    collect(Port, <<>>).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    end.
