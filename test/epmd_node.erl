%% Nodes with `-epmd_module portmapper_epmd'.
-module(epmd_node).

-include_lib("stdlib/include/assert.hrl").

-export([arguments/1, start/3, start/4, host/1, listed/1, creation/2, await_free/1, assert_meet/1]).
-export([place/0, leave/1]).

%% @doc The arguments of `erl'.
-spec arguments(portmapper_config:epmd_mode()) -> [string()].
arguments(Mode) ->
    ["-epmd_module", "portmapper_epmd", "-portmapper", "epmd_mode", atom_to_list(Mode)].

%% @doc A node, `Name@127.0.0.1', on a port.
-spec start(atom(), portmapper_config:epmd_mode(), inet:port_number()) -> testkit:vm().
start(Name, Mode, Port) ->
    start(Name, Mode, Port, #{}).

%% @doc The same with what testkit:start_node/3 takes.
-spec start(atom(), portmapper_config:epmd_mode(), inet:port_number(), map()) -> testkit:vm().
start(Name, Mode, Port, Options) ->
    Arguments = maps:get(args, Options, []) ++ arguments(Mode),
    testkit:start_node(Name, Port, Options#{args => Arguments}).

%% @doc The one of these nodes that is the port mapper, or is about to be.
-spec host(#{atom() => testkit:vm()}) -> atom().
host(Nodes) ->
    Serves = fun(VM) -> testkit:call(VM, portmapper_server, serves, []) end,
    Hosts = fun() -> [Name || {Name, VM} <- maps:to_list(Nodes), Serves(VM)] end,
    ok = testkit:wait_until(fun() -> Hosts() =/= [] end),
    [Host] = Hosts(),
    Host.

%% @doc The names that are listed on a port, in order; none if nobody serves it.
-spec listed(inet:port_number()) -> [atom()].
listed(Port) ->
    try testkit:names(Port) of
        Names -> lists:sort([binary_to_atom(Name) || {Name, _} <- Names])
    catch
        error:_ -> []
    end.

%% @doc What the port mapper of one node tells as creation of another one.
-spec creation(testkit:vm(), atom()) -> portmapper:creation().
creation(VM, Name) ->
    {ok, #{creation := Creation}} = testkit:call(VM, portmapper, lookup, [Name]),
    Creation.

%% @doc Until nobody listens on a port.
-spec await_free(inet:port_number()) -> ok.
await_free(Port) ->
    testkit:wait_until(fun() ->
        gen_tcp:connect({127, 0, 0, 1}, Port, []) =:= {error, econnrefused}
    end).

%% @doc All connect to all, anew.
-spec assert_meet([testkit:vm()]) -> ok.
assert_meet(VMs) ->
    Nodes = [testkit:call(VM, erlang, node, []) || VM <- VMs],
    [testkit:call(VM, erlang, disconnect_node, [Node]) || VM <- VMs, Node <- Nodes],
    [
        ?assertEqual(pong, testkit:call(VM, net_adm, ping, [Node]))
     || VM <- VMs, Node <- Nodes
    ],
    ok.

%% @doc A directory for the sockets of takeovers, in the environment of what is started
%% from now on.
-spec place() -> {file:filename(), Before :: string() | false}.
place() ->
    Name = io_lib:format("/tmp/epmd_node-~s-~b", [os:getpid(), erlang:unique_integer([positive])]),
    Directory = lists:flatten(Name),
    ok = file:make_dir(Directory),
    Before = os:getenv("RUNTIME_DIRECTORY"),
    true = os:putenv("RUNTIME_DIRECTORY", Directory),
    {Directory, Before}.

%% @doc Removes it.
-spec leave({file:filename(), Before :: string() | false}) -> ok.
leave({Directory, Before}) ->
    true =
        case Before of
            false -> os:unsetenv("RUNTIME_DIRECTORY");
            _ -> os:putenv("RUNTIME_DIRECTORY", Before)
        end,
    file:del_dir_r(Directory).
