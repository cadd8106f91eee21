%% In a node: something that looks for other nodes, under a supervisor, and what it has told
%% a subscriber.
-module(discoverer).
-behaviour(supervisor).

-export([start/1, told/0, stop/0, stall/0, go_on/0]).
-export([init/1]).

%% @doc Begins, and keeps what is told.
-spec start(portmapper_discovery:options()) -> ok.
start(Options) ->
    Caller = self(),
    Pid = spawn(fun() ->
        true = register(?MODULE, self()),
        {ok, Supervisor} = supervisor:start_link(?MODULE, Options),
        {ok, Reference} = portmapper_discovery:subscribe(),
        Caller ! {self(), started},
        listen(Supervisor, Reference, [])
    end),
    receive
        {Pid, started} -> ok
    end.

-spec init(portmapper_discovery:options()) -> {ok, {supervisor:sup_flags(), list()}}.
init(Options) ->
    {ok, {#{}, [portmapper_discovery:child_spec(Options)]}}.

listen(Supervisor, Reference, Told) ->
    receive
        {portmapper_discovery, Reference, Event} ->
            listen(Supervisor, Reference, [Event | Told]);
        {From, told} ->
            From ! {?MODULE, lists:reverse(Told)},
            listen(Supervisor, Reference, Told);
        {From, stall} ->
            _ = [self() ! work || _ <- lists:seq(1, 10_000)],
            From ! {?MODULE, ok},
            receive
                {Other, go_on} -> Other ! {?MODULE, ok}
            end,
            listen(Supervisor, Reference, []);
        {From, stop} ->
            ok = portmapper_discovery:unsubscribe(Reference),
            true = unlink(Supervisor),
            Monitor = monitor(process, Supervisor),
            true = exit(Supervisor, shutdown),
            receive
                {'DOWN', Monitor, process, Supervisor, _} -> From ! {?MODULE, ok}
            end;
        work ->
            listen(Supervisor, Reference, Told)
    end.

%% @doc All events so far.
-spec told() -> [portmapper_discovery:event()].
told() -> ask(told).

-spec stop() -> ok.
stop() -> ask(stop).

%% @doc From now on it has 10,000 messages to read, until it goes on.
-spec stall() -> ok.
stall() -> ask(stall).

-spec go_on() -> ok.
go_on() -> ask(go_on).

ask(Request) ->
    ?MODULE ! {self(), Request},
    receive
        {?MODULE, Answer} -> Answer
    end.
