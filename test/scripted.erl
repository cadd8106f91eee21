%% A port mapper that says what a script tells it to, whatever it is asked.
-module(scripted).

-export([start/0, set/2, port/1, stop/1]).
-export_type([scripted/0]).

-type scripted() :: {pid(), inet:port_number()}.
-type script() :: [Bytes :: iodata() | close | silence | endless | {later, Bytes :: iodata()}].

%% Milliseconds until what is to come later does.
-define(LATER, 30).

%% @doc Starts it on loopback, of both families, on a port that the system chose.
-spec start() -> scripted().
start() ->
    Starter = self(),
    Pid = spawn_link(fun() ->
        {ok, Listener} = listen({127, 0, 0, 1}, 0),
        {ok, Port} = inet:port(Listener),
        {ok, Other} = listen({0, 0, 0, 0, 0, 0, 0, 1}, Port),
        Self = self(),
        [spawn_link(fun() -> accept(Each, Self) end) || Each <- [Listener, Other]],
        Starter ! {self(), Port},
        hold([silence])
    end),
    receive
        {Pid, Port} -> {Pid, Port}
    end.

listen(Address, Port) ->
    gen_tcp:listen(Port, [
        binary, {active, false}, {reuseaddr, true}, {ip, Address}, {backlog, 100}
    ]).

%% @doc What it says from now on.
-spec set(scripted(), script()) -> ok.
set({Pid, _Port}, Script) ->
    Pid ! {set, Script},
    ok.

-spec port(scripted()) -> inet:port_number().
port({_Pid, Port}) -> Port.

-spec stop(scripted()) -> ok.
stop({Pid, _Port}) ->
    Monitor = monitor(process, Pid),
    unlink(Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

hold(Script) ->
    receive
        {set, Next} ->
            hold(Next);
        {get, Pid} ->
            Pid ! {script, Script},
            hold(Script)
    end.

accept(Listener, Holder) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Holder ! {get, self()},
    receive
        {script, Script} ->
            Pid = spawn_link(fun() ->
                receive
                    go -> follow(Socket, Script)
                end
            end),
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! go
    end,
    accept(Listener, Holder).

%% After the request, so that no close is a reset.
follow(Socket, Script) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, _Request} -> say(Socket, Script);
        {error, _} -> gen_tcp:close(Socket)
    end.

say(Socket, [close | _]) ->
    gen_tcp:close(Socket);
say(Socket, [silence | _]) ->
    gen_tcp:recv(Socket, 0);
say(Socket, [endless | _] = Script) ->
    case gen_tcp:send(Socket, binary:copy(<<"name n at port 1\n">>, 1000)) of
        ok -> say(Socket, Script);
        {error, _} -> gen_tcp:close(Socket)
    end;
say(Socket, [{later, Bytes} | Script]) ->
    timer:sleep(?LATER),
    say(Socket, [Bytes | Script]);
say(Socket, [Bytes | Script]) ->
    _ = gen_tcp:send(Socket, Bytes),
    say(Socket, Script).
