%% @doc Tells whoever connects which nodes are registered, one a line. Clients
%% find its port as that of a node: by the name "directory", which the VM has that
%% serves as port mapper.
-module(switchboard_directory).

-export([start_link/0]).
-export([init/0]).

-define(NAME, "directory").
%% Milliseconds until it is looked again whether this VM serves.
-define(INTERVAL, 500).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    proc_lib:start_link(?MODULE, init, []).

%% @private
-spec init() -> no_return().
init() ->
    Options = [binary, {active, false}, {ip, loopback}, {send_timeout, 5000}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    ok = proc_lib:init_ack({ok, self()}),
    ok = register_port(Port),
    serve(Listener).

%% Of several VMs in mode `auto' all but one wait here for their turn.
register_port(Port) ->
    %% The name is the VM's: it stays when this process dies and is restarted.
    try portmapper:unregister(?NAME) of
        _ ->
            {ok, _Creation} = portmapper:register(?NAME, Port),
            ok
    catch
        error:{not_running, portmapper} ->
            ok = timer:sleep(?INTERVAL),
            register_port(Port)
    end.

serve(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Lines = [[Name, $\s, integer_to_list(Port), $\n] || {Name, Port} <- portmapper:names()],
    _ = gen_tcp:send(Socket, Lines),
    ok = gen_tcp:close(Socket),
    serve(Listener).
