%% @doc The connections to the nodes of one host, a part of the state of {@link
%% portmapper_discovery_host}: which are there, and which are tried when.
%%
%% Its process has messages when nodes come and go (`net_kernel:monitor_nodes/2'), and gives
%% those that it does not know to {@link handle/2}.
-module(portmapper_discovery_links).

-export([new/2, want/2, forget/2, handle/2, attempt/2]).
-export_type([links/0]).

%% Attempts at the same time. Each may last as long as `net_setuptime'.
-define(MAX_ATTEMPTS, 8).
%% Milliseconds between two attempts, the first time and at most; and how long a
%% connection has to last so that the next time is a first one.
-define(FIRST_PAUSE, 100).
-define(LAST_PAUSE, 60_000).
-define(STABLE, 10_000).

-record(link, {
    is_wanted = true :: boolean(),
    status = idle :: idle | queued | trying | waiting | connected,
    timer :: reference() | undefined,
    %% In a row.
    failures = 0 :: non_neg_integer(),
    %% When it was tried or connected last.
    since :: integer() | undefined,
    is_told = false :: boolean()
}).

-record(links, {
    connect :: fun((node()) -> boolean() | ignored),
    tell :: fun((portmapper_discovery:event()) -> ok),
    links = #{} :: #{node() => #link{}},
    queue = queue:new() :: queue:queue(node()),
    attempts = #{} :: #{Monitor :: reference() => node()}
}).

-opaque links() :: #links{}.

%% @doc `Connect' is called in a process of its own.
-spec new(fun((node()) -> boolean() | ignored), fun((portmapper_discovery:event()) -> ok)) ->
    links().
new(Connect, Tell) ->
    #links{connect = Connect, tell = Tell}.

%% @doc A node has been registered, maybe once more.
-spec want(node(), links()) -> links().
want(Node, #links{links = Known} = Links) ->
    Link = (maps:get(Node, Known, #link{}))#link{is_wanted = true, failures = 0},
    case Link#link.status of
        Status when Status =:= idle; Status =:= waiting ->
            case is_connected(Node) of
                true -> connected(Node, Link, Links);
                false -> soon(Node, cancel(Link), Links)
            end;
        _ ->
            put(Node, Link, Links)
    end.

%% @doc It is registered no more: a connection stays, but is not made again.
-spec forget(node(), links()) -> links().
forget(Node, #links{links = Known, queue = Queue} = Links) ->
    #{Node := Link} = Known,
    case Link#link{is_wanted = false} of
        #link{status = waiting} = Unwanted ->
            put(Node, cancel(Unwanted), Links);
        #link{status = queued} = Unwanted ->
            Shorter = Links#links{queue = queue:delete(Node, Queue)},
            put(Node, Unwanted#link{status = idle}, Shorter);
        Unwanted ->
            put(Node, Unwanted, Links)
    end.

%% @doc What a message changes.
-spec handle(Message :: term(), links()) -> links().
handle({nodeup, Node, _Info}, #links{links = Known} = Links) ->
    case Known of
        #{Node := #link{status = Status} = Link} when Status =/= connected ->
            connected(Node, Link, unqueued(Node, Status, Links));
        _ ->
            Links
    end;
handle({nodedown, Node, _Info}, #links{links = Known, tell = Tell} = Links) ->
    case Known of
        #{Node := #link{status = connected, since = Since, failures = Failures} = Link} ->
            ok = Tell({disconnected, Node}),
            Next =
                case now_ms() - Since >= ?STABLE of
                    true -> 0;
                    false -> Failures
                end,
            later(Node, Link#link{failures = Next}, Links);
        _ ->
            Links
    end;
handle({timeout, Timer, Node}, #links{links = Known} = Links) ->
    case Known of
        #{Node := #link{status = waiting, timer = Timer} = Link} -> enqueue(Node, Link, Links);
        _ -> Links
    end;
handle({'DOWN', Monitor, process, _Pid, Result}, #links{attempts = Attempts} = Links) ->
    case maps:take(Monitor, Attempts) of
        {Node, Others} -> start(tried(Node, Result, Links#links{attempts = Others}));
        error -> Links
    end;
handle(_Message, Links) ->
    Links.

tried(Node, Result, #links{links = Known} = Links) ->
    case maps:get(Node, Known) of
        #link{status = trying} = Link ->
            case {Result, is_connected(Node)} of
                {_, true} -> connected(Node, Link, Links);
                %% It has ended meanwhile.
                {{attempted, true}, false} -> later(Node, Link, Links);
                {{attempted, {error, Reason}}, false} -> failed(Node, Reason, Link, Links);
                {{attempted, _}, false} -> failed(Node, refused, Link, Links);
                {Reason, false} -> failed(Node, Reason, Link, Links)
            end;
        _ ->
            Links
    end.

failed(Node, Reason, #link{is_told = IsTold} = Link, #links{tell = Tell} = Links) ->
    _ = [ok = Tell({failed, Node, Reason}) || not IsTold],
    later(Node, Link#link{is_told = true}, Links).

connected(Node, Link, #links{tell = Tell} = Links) ->
    ok = Tell({connected, Node}),
    Cancelled = cancel(Link),
    put(Node, Cancelled#link{status = connected, since = now_ms(), is_told = false}, Links).

%% At once, unless it was tried just now: whoever says that it has registered may say so
%% without end.
soon(Node, #link{since = Since} = Link, Links) ->
    case Since =/= undefined andalso now_ms() - Since < ?FIRST_PAUSE of
        true -> later(Node, Link, Links);
        false -> enqueue(Node, Link, Links)
    end.

later(Node, #link{is_wanted = true, failures = Failures} = Link, Links) ->
    Time = portmapper_backoff:time(Failures, ?FIRST_PAUSE, ?LAST_PAUSE),
    Timer = erlang:start_timer(Time, self(), Node),
    put(Node, Link#link{status = waiting, timer = Timer, failures = Failures + 1}, Links);
later(Node, Link, Links) ->
    put(Node, Link#link{status = idle}, Links).

enqueue(Node, Link, #links{queue = Queue} = Links) ->
    Queued = Link#link{status = queued, timer = undefined},
    start(put(Node, Queued, Links#links{queue = queue:in(Node, Queue)})).

unqueued(Node, queued, #links{queue = Queue} = Links) ->
    Links#links{queue = queue:delete(Node, Queue)};
unqueued(_Node, _Status, Links) ->
    Links.

%% As many attempts as there may be.
start(#links{attempts = Attempts} = Links) when map_size(Attempts) >= ?MAX_ATTEMPTS ->
    Links;
start(#links{queue = Queue, attempts = Attempts, links = Known, connect = Connect} = Links) ->
    case queue:out(Queue) of
        {empty, _} ->
            Links;
        {{value, Node}, Rest} ->
            {_Pid, Monitor} = spawn_monitor(?MODULE, attempt, [Node, Connect]),
            Link = (maps:get(Node, Known))#link{status = trying, since = now_ms()},
            Begun = Links#links{queue = Rest, attempts = Attempts#{Monitor => Node}},
            start(put(Node, Link, Begun))
    end.

%% @private
%% `net_kernel' resolves the host itself, and does nothing else meanwhile: so it is not asked
%% for one that cannot be resolved, or takes its time the first time.
-spec attempt(node(), fun((node()) -> boolean() | ignored)) -> no_return().
attempt(Node, Connect) ->
    [_Name, Host] = string:split(atom_to_list(Node), "@"),
    IsFound = fun(Family) -> element(1, inet:getaddr(Host, Family)) =:= ok end,
    case lists:any(IsFound, [inet, inet6]) of
        true -> exit({attempted, Connect(Node)});
        false -> exit({attempted, {error, nxdomain}})
    end.

is_connected(Node) ->
    lists:member(Node, nodes(connected)).

cancel(#link{status = waiting, timer = Timer} = Link) ->
    _ = erlang:cancel_timer(Timer),
    Link#link{status = idle, timer = undefined};
cancel(Link) ->
    Link.

put(Node, Link, #links{links = Known} = Links) ->
    Links#links{links = Known#{Node => Link}}.

now_ms() ->
    erlang:monotonic_time(millisecond).
